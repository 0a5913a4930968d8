"""``python -m experiments`` runs ``digits``; ``list`` shows all names; ``NAME --help`` shows the options of one."""

import sys

from experiments.cli import keep_compiled_programs, main

EXPERIMENTS = {
    "digits": "experiments.digits",
    "mnist": "experiments.mnist",
    "mnist_cnn": "experiments.mnist_cnn",
    "convolution": "experiments.convolution",
    "optimizers": "experiments.optimizers",
    "learning_rate": "experiments.learning_rate",
    "layerwise_rates": "experiments.layerwise_rates",
    "worked_example": "experiments.worked_example",
    "gradients": "experiments.gradients",
    "mutants": "experiments.mutants",
    "accuracy": "experiments.accuracy",
    "regularization": "experiments.regularization",
    "landscape": "experiments.landscape",
    "curvature": "experiments.curvature",
    "edge_of_stability": "experiments.edge_of_stability",
    "conditioning": "experiments.conditioning",
    "gradient_flow_in_time": "experiments.gradient_flow_in_time",
    "sequence_digits": "experiments.sequence_digits",
    "adding_problem": "experiments.adding_problem",
    "characters": "experiments.characters",
    "sweep": "experiments.sweep",
    "network": "experiments.network",
    "cost_of_layers": "experiments.cost_of_layers",
    "scaling": "experiments.scaling",
    "fuzz": "experiments.fuzz",
    "diagnosis": "experiments.diagnosis",
    "doctor": "experiments.doctor",
}

if __name__ == "__main__":
    keep_compiled_programs()
    sys.exit(main("python -m experiments", EXPERIMENTS, default="digits"))
