"""Prompts of real text, cut or joined to the tokens that the trace asks for."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from loadgen.errors import InputError
from loadgen.prompts.lexicon import Lexicon
from loadgen.prompts.outline import Outlines, Part, PartKind, outline_prompts
from loadgen.prompts.pool import Assignment, TextPool, assign_texts
from loadgen.prompts.synthetic import compose, made_up, overhead_by_service
from loadgen.prompts.tokenizer import Tokenizer
from loadgen.trace import Trace

_BETWEEN_TEXTS: Final = "\n\n"
_CUTS_TRIED: Final = 16
_PROMPTS_KEPT: Final = 1000  # for the later turns of their conversations


@dataclass(frozen=True, slots=True)
class DatasetPrompts:
    """Prompts out of a pool of texts; made-up words fill up where no cut of a text has exactly the tokens.

    What stands for an answer in the history of a conversation is made up, and so are the prompts of a trace with
    recorded blocks.
    """

    pool: TextPool
    tokenizer: Tokenizer
    lexicon: Lexicon

    def texts(self, trace: Trace, rows: Sequence[int], seed: int) -> Iterator[str]:
        """The prompt of each of `rows`: it depends on the trace, the row and the seed alone.

        Raises:
            InputError: no text of a prompt's length can be made.
        """
        outlines = outline_prompts(trace, overhead_by_service(self.tokenizer))
        wanted = np.where(outlines.has_blocks, 0, outlines.new_tokens)
        assignment = assign_texts(self.pool.tokens, wanted, np.random.default_rng(seed))
        latest: OrderedDict[int, str] = OrderedDict()
        for row in rows:
            if outlines.has_blocks[row]:
                yield compose(self.lexicon, outlines.parts(row), seed)
            else:
                yield self._turn(row, outlines, assignment, seed, latest)
                while len(latest) > _PROMPTS_KEPT:
                    latest.popitem(last=False)

    def _turn(
        self, row: int, outlines: Outlines, assignment: Assignment, seed: int, latest: OrderedDict[int, str]
    ) -> str:
        """One prompt with the conversation before it; prompts that were made for it go into `latest`."""
        turns = [row]
        while turns[-1] not in latest and (earlier := outlines.history_of(turns[-1])) is not None:
            turns.append(earlier)
        text = ""
        for turn in reversed(turns):
            if turn not in latest:
                earlier = outlines.history_of(turn)
                if earlier is not None:
                    text += self._made_up(outlines.answer(earlier), seed, after=text)
                own = Part(PartKind.OWN, turn, int(outlines.new_tokens[turn]))
                latest[turn] = self._fit(text, assignment.of(turn), int(outlines.text_tokens[turn]), own, seed)
            text = latest[turn]
        return text

    def _fit(self, before: str, places: Sequence[int], tokens: int, own: Part, seed: int) -> str:
        """`before` and as much of the texts at `places` as makes exactly `tokens` tokens together.

        A text cut where one of its tokens ends has the same tokens up to there, as a rule. Where not (the cut is
        inside a character that takes several tokens, say) it is cut before, and made-up words fill it up.
        """
        whole = " ".join(filter(None, [before, _BETWEEN_TEXTS.join(map(self.pool.text, places))]))
        ends = self.tokenizer.ends(whole)
        for end in ends[:tokens][: -_CUTS_TRIED - 1 : -1]:
            if end >= len(before) and (text := self._filled(whole[:end].rstrip(), tokens, own, seed)):
                return text
        made_up_text = compose(self.lexicon, [replace(own, tokens=tokens)], seed)
        return self._filled(before, tokens, own, seed) or made_up_text

    def _filled(self, text: str, tokens: int, own: Part, seed: int) -> str | None:
        """The text, with made-up words after it if it is too short; None = it has not exactly `tokens` tokens so."""
        missing = tokens - self.tokenizer.counts([text])[0]
        if missing > 0:
            with suppress(InputError):
                text += self._made_up(replace(own, tokens=missing), seed, after=text)
                missing = tokens - self.tokenizer.counts([text])[0]
        return text if missing == 0 else None

    def _made_up(self, part: Part, seed: int, after: str) -> str:
        return made_up(self.lexicon, part, seed, is_opening=not after) if part.tokens else ""
