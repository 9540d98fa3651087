"""What each prompt of a trace consists of: parts of a known number of tokens, the shared ones by their numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from loadgen.prompts.tokenizer import Overhead
from loadgen.trace import Service, Trace

_NO_ROW = -1


class PartKind(IntEnum):
    """Whose text a part is; what `Part.number` counts."""

    OWN = 0  # one request's, by its row
    BLOCK = 1  # all prompts' that hold this block, by the block's number
    ANSWER = 2  # the conversation's from here on, by the row of the request that was answered


@dataclass(frozen=True, slots=True)
class Part:
    """The first `tokens` tokens of the text that `kind` and `number` name."""

    kind: PartKind
    number: int
    tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """The outline of each prompt of a trace.

    Attributes:
        text_tokens: i64[n], the tokens of the prompt's text: without what the server adds to it, at least one.
        history: i64[n], the row whose prompt and answer the prompt begins with; `_NO_ROW` = it begins afresh.
        new_tokens: i64[n], those of the text that come after its history.
        has_blocks: bool[n], the trace says by blocks what the prompt begins with.
    """

    trace: Trace
    overhead: Mapping[Service, Overhead]
    text_tokens: NDArray[np.int64]
    history: NDArray[np.int64]
    new_tokens: NDArray[np.int64]
    has_blocks: NDArray[np.bool_]

    def history_of(self, row: int) -> int | None:
        """The row whose prompt and answer this prompt begins with."""
        earlier = int(self.history[row])
        return None if earlier == _NO_ROW else earlier

    def answer(self, row: int) -> Part:
        """What stands for the answer to this request where a later prompt repeats it."""
        return Part(PartKind.ANSWER, row, int(self.trace.output_tokens[row]))

    def parts(self, row: int) -> list[Part]:
        """The parts of the prompt, in order; each has at least one token."""
        turns = [row]
        while (earlier := self.history_of(turns[-1])) is not None:
            turns.append(earlier)
        parts = self._blocks(turns[-1])
        own_tokens = int(self.new_tokens[turns[-1]]) - sum(part.tokens for part in parts)
        parts.append(Part(PartKind.OWN, turns[-1], own_tokens))
        for turn, earlier in zip(turns[-2::-1], turns[:0:-1], strict=True):
            parts += [self.answer(earlier), Part(PartKind.OWN, turn, int(self.new_tokens[turn]))]
        return [part for part in parts if part.tokens]

    def _blocks(self, row: int) -> list[Part]:
        """The blocks as far as they lie in the prompt's text; what the server puts before it is part of the first."""
        prefix = self.trace.prefix
        if prefix is None:
            return []
        blocks = prefix.of(row)
        first = self.overhead[Service(int(self.trace.service[row]))].before_tokens
        bounds = np.arange(len(blocks) + 1) * prefix.block_tokens
        bounds = np.clip(bounds, first, first + int(self.text_tokens[row]))
        return [
            Part(PartKind.BLOCK, number, tokens)
            for number, tokens in zip(blocks.tolist(), np.diff(bounds).tolist(), strict=True)
            if tokens
        ]


def outline_prompts(trace: Trace, overhead: Mapping[Service, Overhead]) -> Outlines:
    """Outline the prompts of `trace`; `overhead` is what the server adds to a prompt, by service.

    A prompt with recorded blocks consists of them, and of text of its own where they end. Else, a prompt that is at
    least as long as the session's previous prompt and answer together begins with these; what is left is its own.
    Any other prompt is all its own.
    """
    added = np.array([overhead[service].tokens for service in Service])[trace.service]
    text_tokens = np.maximum(trace.prompt_tokens.astype(np.int64) - added, 1)
    has_blocks = np.zeros(len(trace), dtype=bool) if trace.prefix is None else np.diff(trace.prefix.first) > 0
    history = _previous_turns(trace.session)
    history[has_blocks] = _NO_ROW
    history_tokens = np.where(history == _NO_ROW, 0, text_tokens[history] + trace.output_tokens[history])
    history[text_tokens < history_tokens] = _NO_ROW
    new_tokens = np.where(history == _NO_ROW, text_tokens, text_tokens - history_tokens)
    return Outlines(trace, overhead, text_tokens, history, new_tokens, has_blocks)


def _previous_turns(session: NDArray[np.int64]) -> NDArray[np.int64]:
    """i64[n], the latest earlier row of the same session, `_NO_ROW` for its first."""
    order = np.argsort(session, kind="stable")
    is_later = session[order[1:]] == session[order[:-1]]
    previous = np.full(len(session), _NO_ROW)
    previous[order[1:][is_later]] = order[:-1][is_later]
    return previous
