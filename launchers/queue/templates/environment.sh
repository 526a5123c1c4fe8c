# What every batch job of this folder needs; source it before you call qlaunch or lpad, too.
# Yours to edit. Write no password here: see README.md.

# The modules of this machine (MPI, VASP, CUDA) and where its POTCARs are, for example
#   module purge
#   module load openmpi vasp/6.4.3
#   export PMG_VASP_PSP_DIR=/shared/potcars

export PATH=@bin:"$PATH"
@python_path
# Relaxations by a potential are fastest with one thread for each worker.
export OMP_NUM_THREADS=1
export GAN_HTVS_RANKS=1  # of MPI; my_qadapter.yaml of the category says how many
export GAN_HTVS_CORES=1  # that a worker spreads a prescreen over; the same file says how many

export FW_CONFIG_FILE=@folder/FW_config.yaml
export JOBFLOW_CONFIG_FILE=@folder/jobflow.yaml
export ATOMATE2_CONFIG_FILE=@folder/atomate2.yaml

# An interrupted training finds its last state here, on whichever node it goes on.
export GAN_HTVS_SCRATCH=@scratch
