# Environment of every batch job of this folder. Source it also before qlaunch and lpad.
# Edit as needed, but write no password here: see README.md.

# Add the modules of this machine (MPI, VASP, CUDA) and the folder of its POTCARs, for example
#   module purge
#   module load openmpi vasp/6.4.3
#   export PMG_VASP_PSP_DIR=/shared/potcars

export PATH=@bin:"$PATH"
@python_path
# Defaults; my_qadapter.yaml of each category sets its own values.
export OMP_NUM_THREADS=1  # threads per worker; relaxations with a potential are fastest with one
export GAN_HTVS_RANKS=1   # MPI processes per worker
export GAN_HTVS_CORES=1   # cores that a worker may use for a prescreen

export FW_CONFIG_FILE=@folder/FW_config.yaml
export JOBFLOW_CONFIG_FILE=@folder/jobflow.yaml
export ATOMATE2_CONFIG_FILE=@folder/atomate2.yaml

# Folder for the state of interrupted trainings, which can resume on any node.
export GAN_HTVS_SCRATCH=@scratch
