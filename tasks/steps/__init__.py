"""The steps of the chain: a job model, a worker, and ``run_*(job, pools)`` each."""
