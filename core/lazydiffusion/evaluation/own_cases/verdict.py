"""A contest in numbers and sentences: medians and means, tables, and a verdict that says no more than they do."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lazydiffusion.evaluation import markdown
from lazydiffusion.evaluation.own_cases.contest import Contest, Entry

ALIKE = 1.05
"""Two models whose times differ by less than this factor take as long."""
EXPLAINED = (
    "Seconds are medians. The first fill is timed from the beginning of its edit, so that reading canvas and prompt is "
    "in it, and in each model's very first one its warm-up; following fills from the fill before. The border step is "
    "the mean difference between neighbours across the mask's border, in levels of 255. Hidden tokens are those that "
    "the mask touches in the window that the model is shown; one that is not lazy makes the visible ones as well."
)


@dataclass(frozen=True)
class Summary:
    """What one model did in some cases; None where nothing could be measured."""

    first_seconds: float
    """Median over the cases."""
    following_seconds: float | None
    """Median over all fills but the first of each case."""
    border_step: float | None
    """Mean over the cases of the mean over their fills, 8-bit levels."""
    text_image: float | None
    """Likewise, cosine."""
    psnr_outside: float | None
    """Of the worst fill, dB."""
    changed: int
    """Fills that changed a pixel outside the mask."""
    hidden_tokens: float
    """Median over the cases."""


def summarise(entry: Entry, numbers: Iterable[int] | None = None) -> Summary:
    """One model's summary over the cases of these numbers; over all of them by default."""
    played = entry.played if numbers is None else [entry.played[number] for number in numbers]
    fills = [fill for it in played for fill in it.fills]
    following = [fill.seconds for it in played for fill in it.fills[1:]]
    outside = [fill.psnr_outside for fill in fills if fill.psnr_outside is not None]
    return Summary(
        first_seconds=statistics.median(it.fills[0].seconds for it in played),
        following_seconds=statistics.median(following) if following else None,
        border_step=_mean(_mean(fill.border_step for fill in it.fills) for it in played),
        text_image=_mean(_mean(fill.text_image for fill in it.fills) for it in played),
        psnr_outside=min(outside, default=None),
        changed=sum(1 for psnr in outside if math.isfinite(psnr)),
        hidden_tokens=statistics.median(it.hidden_tokens for it in played),
    )


def figures(entry: Entry, numbers: Iterable[int] | None = None) -> dict[str, str]:
    """What a summary holds, as words by their names; without what could not be measured."""
    found = summarise(entry, numbers)
    words = {
        "first fill": f"{found.first_seconds:.2f} s",
        "following": _said(found.following_seconds, "{:.2f} s"),
        "border step": _said(found.border_step, "{:.1f}"),
        "text-image": _said(found.text_image, "{:.3f}"),
        "PSNR outside": _said(found.psnr_outside, "{:.1f} dB"),
        "hidden tokens": f"{found.hidden_tokens:.0f}",
    }
    if found.psnr_outside == math.inf:
        words["PSNR outside"] = "infinite (bit-exact)"
    return {name: value for name, value in words.items() if value}


def table(contest: Contest, conditions: str, failure: str | None = None) -> str:
    """The contest as Markdown: verdict, table of the models, table of the cases.

    `conditions`: the device and what else was the same for all, in a sentence. `failure`: why the contest ended early.
    """
    lines = [verdict(contest), "", f"{conditions} {EXPLAINED}", ""]
    if failure is not None:
        lines = [f"**The contest ended early:** {failure}", "", *lines]
    by_model = [
        {
            "model": _code(entry.contender.name),
            "engine": " ".join(filter(None, [entry.contender.engine, entry.contender.view])),
            **figures(entry),
            "steps": ", ".join(map(str, sorted({it.steps for it in entry.played}))),
            "loading": f"{entry.load_seconds:.1f} s",
            "peak CUDA memory": _said(entry.peak_bytes and entry.peak_bytes / 2**30, "{:.1f} GiB"),
        }
        for entry in contest.entries
    ]
    lines += [*_rows(by_model), "", "Case by case:", ""]
    by_case = [
        {
            "case": _code(given.case.name),
            "model": _code(entry.contender.name),
            **figures(entry, [number]),
            "border step of the canvas": _said(given.border_step, "{:.1f}"),
        }
        for number, given in enumerate(contest.given)
        for entry in contest.entries
    ]
    return "\n".join([*lines, *_rows(by_case)]) + "\n"


def verdict(contest: Contest) -> str:
    """Who is faster, whose borders are less visible, who shows the prompt better, what happened outside the masks."""
    fills = sum(given.case.settings.variations for given in contest.given)
    seeds = fills // len(contest.given)
    said = [f"**Verdict** from {_count(len(contest.given), 'case')} with {_count(seeds, 'fill')} of each."]
    if len(contest.entries) > 1:
        said += [
            _fastest(contest, "First fills of an edit, warm-up included", lambda it: it.first_seconds),
            _fastest(contest, "Following fills", lambda it: it.following_seconds),
            _best(
                contest,
                lambda it: it.border_step,
                words=("Borders are least visible", "the mean border step", "larger"),
                form="{:.1f}",
                more_is_better=False,
            ),
            _best(
                contest,
                lambda it: it.text_image,
                words=("The prompt is shown best", "the mean cosine", "lower"),
                form="{:.3f}",
                more_is_better=True,
            ),
        ]
    return " ".join(filter(None, [*said, _outside(contest, fills)]))


def _fastest(contest: Contest, what: str, of: Callable[[Summary], float | None]) -> str:
    times = [
        (seconds, _code(entry.contender.name))
        for entry in contest.entries
        if (seconds := of(summarise(entry))) is not None
    ]
    if not times:
        return ""
    (least, first), *others = sorted(times)
    told = []
    for seconds, name in others:
        ratio = "as long" if seconds < ALIKE * least else f"{seconds / least:.1f} times as long"
        told.append(f"{name} takes {ratio} ({seconds:.2f} s)")
    return f"{what}: {first} takes {least:.2f} s, {', '.join(told)}."


def _best(
    contest: Contest,
    of: Callable[[Summary], float | None],
    *,
    words: tuple[str, str, str],
    form: str,
    more_is_better: bool,
) -> str:
    """Who has the best mean, and in how many cases each other one is worse.

    `words`: what is best, what it is measured by, and what a worse one is. Empty where nothing was measured.
    """
    what, measure, worse = words
    sign = 1 if more_is_better else -1
    by_model: dict[str, list[float]] = {}
    for entry in contest.entries:
        values = [of(summarise(entry, [number])) for number in range(len(contest.given))]
        by_model[_code(entry.contender.name)] = [value for value in values if value is not None]
    if not all(by_model.values()):
        return ""
    ranked = sorted(by_model, key=lambda name: sign * statistics.mean(by_model[name]), reverse=True)
    means = {name: form.format(statistics.mean(by_model[name])) for name in ranked}
    if len(set(means.values())) == 1:
        return f"{measure.capitalize()} is {means[ranked[0]]} with every model."
    first, *others = ranked
    told = []
    for name in others:
        pairs = list(zip(by_model[first], by_model[name], strict=True))
        losses = sum(1 for best, other in pairs if sign * (best - other) > 0)
        told.append(f"with {name} it is {means[name]}, {worse} in {losses} of {_count(len(pairs), 'case')}")
    return f"{what} with {first}: {measure} is {means[first]}; {'; '.join(told)}."


def _outside(contest: Contest, fills: int) -> str:
    changed = {entry.contender.name: summarise(entry) for entry in contest.entries}
    guilty = [
        f"{_code(name)} changed pixels in {_count(found.changed, 'fill')} of {fills} (down to "
        f"{found.psnr_outside:.1f} dB)"
        for name, found in changed.items()
        if found.changed
    ]
    if guilty:
        return f"Outside the mask {', '.join(guilty)}."
    if all(found.psnr_outside is None for found in changed.values()):
        return "The masks cover everything: nothing is outside of them."
    return f"Outside the mask all {fills * len(changed)} fills left every pixel as it was (PSNR infinite)."


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _said(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _code(name: str) -> str:
    return f"`{name}`".replace("|", r"\|")


def _rows(rows: Sequence[dict[str, str]]) -> list[str]:
    """A table; a column that is empty in all rows is left out."""
    columns = list(dict.fromkeys(name for row in rows for name, value in row.items() if value))
    return markdown.table(columns, [[row.get(name) or "—" for name in columns] for row in rows])
