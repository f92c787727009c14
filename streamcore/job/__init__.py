"""The control plane: deploys attempts, triggers checkpoints, watches workers, restarts."""
