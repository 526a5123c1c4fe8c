"""The filters of the list: what a reader sets, in step with the address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dash import Dash, Input, Output, State, dcc, html, no_update

from gan_htvs.candidate import Stage
from gan_htvs.errors import UserError
from gan_htvs.proposers import ProposerName
from launchers.explorer.address import Question, bounds_of, range_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dash.development.base_component import Component

    from launchers.explorer.campaigns import Survey


class Slider(NamedTuple):
    """A range that is asked for with two handles; at the ends there is no bound."""

    name: str
    title: str
    low: float
    high: float
    step: float


SLIDERS = (
    Slider("energy_above_hull", "energy above hull, eV/atom", -0.1, 0.5, 0.01),
    Slider("pourbaix_min", "in water at the best pH, eV/atom", -0.2, 2.0, 0.05),
    Slider("band_gap", "band gap, eV", 0.0, 6.0, 0.1),
)


ONLY = {
    "unique": ("one of each crystal", "true"),
    "is_novel": ("novel ones", "true"),
    "known_phases": ("no known phases", "false"),
}
"""Checkboxes: a filter, its title, and its value where the box is checked."""


CONTROLS = (
    *("campaign", "formula", "chemsys", "stage", "proposer"),
    *(each.name for each in SLIDERS),
    "only",
)
"""What asks, by the names of the filters."""


def controls(question: Question, campaigns: Sequence[str]) -> Component:
    """Show the filters as they are in an address."""
    filters = question.filters
    return html.Div(
        id="controls",
        role="search",
        children=[
            _labelled(
                "campaign",
                dcc.Dropdown(
                    list(campaigns), filters.get("campaign"), id="campaign", placeholder="all"
                ),
            ),
            _labelled("formula", _text("formula", filters, "MgMnO3")),
            _labelled("elements", _text("chemsys", filters, "Mg-Mn-O")),
            _labelled(
                "stage",
                dcc.Dropdown(
                    [stage.value for stage in Stage],
                    filters.get("stage", []),
                    id="stage",
                    multi=True,
                    placeholder="any",
                ),
            ),
            _labelled(
                "proposed by",
                dcc.Dropdown(
                    [name.value for name in ProposerName],
                    filters.get("proposer"),
                    id="proposer",
                    placeholder="anything",
                ),
            ),
            *(_labelled(each.title, _slider(each, filters)) for each in SLIDERS),
            dcc.Checklist(
                [{"label": f" {title}", "value": name} for name, (title, _) in ONLY.items()],
                [name for name, (_, value) in ONLY.items() if filters.get(name) == value],
                id="only",
            ),
            dcc.Link("all candidates", href="/", refresh=True, className="reset"),
            # Beside the controls, so that they change no address when they appear.
            dcc.Location(id="asked", refresh="callback-nav"),
        ],
    )


def _labelled(title: str, control: Component) -> Component:
    return html.Div([html.Label(title), control], className="control")


def _text(name: str, filters: dict[str, Any], example: str) -> Component:
    return dcc.Input(
        filters.get(name, ""), "text", id=name, debounce=True, placeholder=example, maxLength=200
    )


def _slider(slider: Slider, filters: dict[str, Any]) -> Component:
    low, high = slider.low, slider.high
    return dcc.RangeSlider(
        low,
        high,
        slider.step,
        value=range_of(filters, slider.name, low, high),
        marks={f"{low:g}": "any", f"{high:g}": "any"},
        allowCross=False,
        id=slider.name,
        tooltip={"placement": "bottom"},
    )


def register(app: Dash, looked: Survey) -> None:
    """Let controls write the address, and follow it."""

    @app.callback(
        Output("asked", "search"),
        *(Input(name, "value") for name in CONTROLS),
        State("url", "search"),
        prevent_initial_call=True,
    )
    def ask(*values: Any) -> Any:
        *told, search = values
        return asked(told, search)

    @app.callback(
        Output("asking", "children"),
        Input("url", "search"),
        *(State(name, "value") for name in CONTROLS),
        prevent_initial_call=True,
    )
    def follow(search: str | None, *values: Any) -> Any:
        # An address that the controls did not write: the reader went back, or followed a link.
        if asked(values, search) is no_update:
            return no_update
        try:
            return controls(Question.read(search), looked.names)
        except UserError:
            return no_update


def asked(values: Sequence[Any], search: str | None) -> Any:
    """Turn the values of all :data:`CONTROLS` into an address; the order stays.

    What is no value of a control, which no page of ours sends, asks for nothing.
    """
    try:
        before = Question.read(search)
    except UserError:
        before = Question({})
    given = dict(zip(CONTROLS, values, strict=True))
    filters = {name: _value(name, value, before) for name, value in given.items() if name != "only"}
    only = given["only"] if isinstance(given["only"], list) else []
    filters |= {name: value for name, (_, value) in ONLY.items() if name in only}
    filters = {name: value for name, value in filters.items() if value}
    # What has no control, such as a space group, was written by hand and stays.
    kept = {
        name: value
        for name, value in before.filters.items()
        if (name not in given and name not in ONLY) or (name in ONLY and value != ONLY[name][1])
    }
    after = before._replace(filters=kept | filters)
    if after.filters == before.filters:
        return no_update
    return after._replace(page=1).write()


def _value(name: str, value: Any, before: Question) -> Any:
    """Read a control; one that shows what the address said says the same, digit for digit."""
    slider = next((each for each in SLIDERS if each.name == name), None)
    if slider is not None:
        if value == range_of(before.filters, name, slider.low, slider.high):
            return before.filters.get(name)
        match value:
            case [int() | float(), int() | float()]:
                return bounds_of(value, slider.low, slider.high)
        return None
    if name == "stage":
        stages = value if isinstance(value, list) else []
        return [stage for stage in stages if isinstance(stage, str)]
    return value.strip() if isinstance(value, str) else None
