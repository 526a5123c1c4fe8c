"""Work on this machine: campaigns with a pool of workers, training, and evaluation."""
