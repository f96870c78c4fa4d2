"""One quiet run on the CPU, of the config given as JSON: for tests with several processes."""

import json
import sys

from experiments.config import RunConfig, Runtime, from_json
from experiments.train import leaving_at_once, train

if __name__ == "__main__":
    config = from_json(RunConfig, json.loads(sys.argv[1]))
    with leaving_at_once():
        train(config, Runtime(device="cpu", progress=False, tensorboard=False, threads=1))
