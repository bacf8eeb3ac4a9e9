"""Trains the tiny distillation in a child process, killing it with SIGKILL at random moments until one ends by itself.

    python run_until_done.py OUT TEACHER KILLS SEED

One interpreter imports torch once and forks for every attempt. Prints the number of attempts that died.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import tiny_models
import torch

from facekd.recipe import Recipe
from facekd.training.log import Reporter
from facekd.training.run import run_recipe


def main() -> None:
    out, teacher, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)  # a process that has started OpenMP threads must not fork
    recipe = Recipe.model_validate(tiny_models.recipe_content(teacher))
    moments = random.Random(seed)
    died = 0
    while True:
        child = os.fork()
        if child == 0:
            run_recipe(recipe, out=out, resume=True, reporter=Reporter(quiet=True))
            os._exit(0)
        if died < kills:
            time.sleep(moments.uniform(0.1, 1.5))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            print(died)
            sys.exit(os.WEXITSTATUS(status))
        died += 1


if __name__ == "__main__":
    main()
