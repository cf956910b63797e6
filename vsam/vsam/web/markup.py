"""What the page shows about a photo, as HTML. All text is escaped: names come from visitors."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from .pictures import Figure, data_uri
from .tagging import Answer

_CLOSEST = 3  # attributes that are named where none is above the threshold


def render(template: str, **values: Any) -> str:
    """Fill one of the package's templates."""
    return str(_environment().get_template(template).render(**values))


def nothing_yet(what: str = "") -> str:
    """Say how to begin, or another sentence in that place."""
    return render("nothing.html", what=what)


def problem(sentence: str) -> str:
    """Say in one sentence what went wrong."""
    return render("problem.html", sentence=sentence)


def category(answer: Answer) -> str:
    """Show the category, and the best five as bars."""
    return render("category.html", answer=answer, best=answer.prediction.categories)


def attributes(answer: Answer) -> str:
    """Show the attributes above the threshold, and links to take the answer along."""
    shown = answer.describe()["attributes"]
    everything = answer.describe(all_scores=True)["attributes"]
    return render(
        "attributes.html",
        shown=[(one["label"], one["score"], _spoke(answer, one["label"])) for one in shown],
        closest=[(one["label"], one["score"]) for one in everything[:_CLOSEST]],
        total=len(everything),
        name=answer.name.rsplit("/", 1)[-1].rsplit(".", 1)[0] or "photo",
        jsonl=data_uri("application/json", answer.as_jsonl().encode()),
        csv=data_uri("text/csv", answer.as_csv().encode()),
    )


def figures(
    name: str, looked: Figure, should: Figure | None, sentence: str = "", *, pending: bool = False
) -> str:
    """Show where the model looked beside where it should look.

    Args:
        name: The photo's.
        looked: The photo with the attention.
        should: The photo with the pose; None if there is none.
        sentence: Why there is none.
        pending: The pose is being looked for.
    """
    return render(
        "figures.html", name=name, looked=looked, should=should, sentence=sentence, pending=pending
    )


def _spoke(answer: Answer, attribute: str) -> str:
    """Name the region that spoke for an attribute, if the model has several."""
    prediction = answer.prediction
    return prediction.spoke(attribute) if prediction.regions else ""


@cache
def _environment() -> Any:
    import jinja2

    folder = resources.files(__package__) / "templates"
    loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
