"""The benchmark suite: machine, peers, processes, measuring, experiments, targets, report."""
