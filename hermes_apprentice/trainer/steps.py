"""The order, size and rate of a generator's training steps.

Pure, without torch: what is computed in a batch is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from hermes_apprentice.errors import TrainingError
from hermes_apprentice.trainer.recipes import Recipe

_MOST_BETWEEN_LOOKS = 50


class Schedule:
    """Which examples each step learns from, and at which rate."""

    def __init__(self, recipe: Recipe, examples: int, seed: int) -> None:
        """Plan for ``examples`` examples."""
        self._seed = seed
        self._examples = examples
        self._size = min(examples, recipe.batch * recipe.accumulation)
        self._recipe = recipe
        self.per_epoch = math.ceil(examples / self._size)
        self.total = min(recipe.max_steps, recipe.epochs * self.per_epoch)
        self._warm = max(1, round(recipe.warmup_share * self.total))
        self.look_every = recipe.eval_every or min(self.per_epoch, _MOST_BETWEEN_LOOKS)

    def rows(self, step: int) -> list[int]:
        """Return the places of the examples of a step; every epoch has its own order."""
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng((self._seed, epoch)).permutation(self._examples)
        return [int(row) for row in order[place * self._size : (place + 1) * self._size]]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: up in a line, then down in half a cosine."""
        highest = self._recipe.learning_rate
        if step < self._warm:
            return highest * (step + 1) / self._warm
        done = (step - self._warm) / max(1, self.total - self._warm)
        return highest * 0.5 * (1 + math.cos(math.pi * done))

    def looks(self, step: int) -> bool:
        """Whether the validation split is looked at after this step."""
        return (step + 1) % self.look_every == 0 or step + 1 == self.total


class Watch:
    """Decides by the loss on the validation split which weights are kept, and when to stop."""

    def __init__(self, patience: int, best: float = math.inf, worse: int = 0) -> None:
        """Go on from ``best``, which was not improved ``worse`` times in a row."""
        self._patience = patience
        self.best = best
        self.worse = worse

    def improved(self, loss: float) -> bool:
        """Take note of a loss, and return whether it is the best so far."""
        if loss < self.best:
            self.best, self.worse = loss, 0
            return True
        self.worse += 1
        return False

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        return self.worse >= self._patience


class Batches:
    """Splits steps into batches, and into smaller ones once the memory was not enough."""

    def __init__(self, size: int, is_full: Callable[[BaseException], bool]) -> None:
        """Begin with batches of ``size``.

        Args:
            size: Examples at once.
            is_full: Whether an error means that the memory was not enough.
        """
        self.size = size
        self._is_full = is_full

    def run(
        self,
        rows: Sequence[int],
        compute: Callable[[Sequence[int]], float],
        start_over: Callable[[], None],
    ) -> float:
        """Compute all rows of one step and return the sum of what ``compute`` returns.

        When the memory is not enough the step begins anew with half as many at once, so as many
        examples count in it as before.

        Args:
            rows: Of the step.
            compute: Takes the rows of one batch.
            start_over: Throws away what the batches so far had left.

        Raises:
            TrainingError: Not even one example fits.
        """
        while True:
            try:
                return sum(
                    compute(rows[start : start + self.size])
                    for start in range(0, len(rows), self.size)
                )
            except (RuntimeError, MemoryError) as error:
                if not self._is_full(error):
                    raise
            # Outside of the handler: the error's traceback holds on to the batch's memory.
            if self.size == 1:
                raise TrainingError(
                    "the memory is not enough for a single example; choose a smaller base model, "
                    "or a recipe with a smaller max_length or with four_bit"
                )
            self.size = (self.size + 1) // 2
            start_over()
