"""Filter controls of the candidate list, synchronized with the URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from gan_htvs.core.errors import UserError
from gan_htvs.core.stages import ProposerName
from gan_htvs.results.filters import Filters
from launchers.results.explorer.address import SearchQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dash.development.base_component import Component

    from launchers.results.explorer.campaign_pages import Survey


class Slider(NamedTuple):
    """A range slider; a handle at the end of the slider sets no bound."""

    title: str
    low: float
    high: float
    step: float

    def handles(self, bounds: tuple[float | None, float | None] | None) -> list[float]:
        """Return the positions of the handles."""
        low, high = bounds or (None, None)
        return [
            self.low if low is None else max(self.low, low),
            self.high if high is None else min(self.high, high),
        ]

    def text(self, handles: Sequence[float]) -> str:
        """Return the range as ``low..high``; empty without bounds."""
        low = f"{handles[0]:g}" if handles[0] > self.low else ""
        high = f"{handles[1]:g}" if handles[1] < self.high else ""
        return f"{low}..{high}" if low or high else ""


SLIDERS = {
    "energy_above_hull": Slider("energy above hull, eV/atom", 0.0, 0.5, 0.01),
    "pourbaix_min": Slider("Pourbaix minimum, eV/atom", -0.2, 2.0, 0.05),
    "band_gap": Slider("band gap, eV", 0.0, 6.0, 0.1),
}

ONLY = {
    "unique": ("each crystal once", "true"),
    "is_novel": ("novel only", "true"),
    "reference_phases": ("no reference phases", "false"),
}
"""Checkboxes: filter, title, and value of the filter if the box is checked."""

CONTROLS = ("campaign", "formula", "chemsys", "stage", "proposer", *SLIDERS, "only")
"""Ids of the controls: names of filters, and of the group of checkboxes."""


def controls(query: SearchQuery, campaigns: Sequence[str], stages: Sequence[str]) -> Component:
    """Return the controls, set to the filters of a query, with the names to choose from."""
    values = values_of(query)

    def choice(name: str, options: Sequence[str], placeholder: str, **more: Any) -> Component:
        return dcc.Dropdown(options, values[name], id=name, placeholder=placeholder, **more)

    def text(name: str, example: str) -> Component:
        return dcc.Input(
            values[name] or "", "text", id=name, debounce=True, placeholder=example, maxLength=200
        )

    titled = {
        "campaign": choice("campaign", list(campaigns), "all"),
        "formula": text("formula", "MgMnO3"),
        "elements": text("chemsys", "Mg-Mn-O"),
        "stage": choice("stage", stages, "any", multi=True),
        "proposed by": choice("proposer", [name.value for name in ProposerName], "any"),
    }
    for name, slider in SLIDERS.items():
        titled[slider.title] = dcc.RangeSlider(
            *slider[1:],
            value=values[name],
            marks={f"{end:g}": "any" for end in (slider.low, slider.high)},
            allowCross=False,
            id=name,
            tooltip={"placement": "bottom"},
        )
    return html.Div(
        [
            *(
                html.Div([html.Label(title), control], className="control")
                for title, control in titled.items()
            ),
            dcc.Checklist(
                [{"label": f" {title}", "value": name} for name, (title, _) in ONLY.items()],
                values["only"],
                id="only",
            ),
            dcc.Link("all candidates", href="/", refresh=True, className="reset"),
            # Created together with the controls, whose initial values then do not change the URL.
            dcc.Location(id="new-url", refresh="callback-nav"),
        ],
        id="controls",
        role="search",
    )


def values_of(query: SearchQuery) -> dict[str, Any]:
    """Return the values of :data:`CONTROLS` for a query."""
    filters = query.filters
    checked = Filters.from_values(**filters)
    values: dict[str, Any] = {name: filters.get(name) for name in CONTROLS}
    values["stage"] = filters.get("stage", [])
    values |= {name: slider.handles(getattr(checked, name)) for name, slider in SLIDERS.items()}
    values["only"] = [name for name, (_, value) in ONLY.items() if filters.get(name) == value]
    return values


def register(app: Dash, survey: Survey) -> None:
    """Register the callbacks that keep URL and controls synchronized."""

    @app.callback(
        Output("new-url", "search"),
        *(Input(name, "value") for name in CONTROLS),
        State("url", "search"),
        prevent_initial_call=True,
    )
    def write_url(*values: Any) -> str:
        before = SearchQuery.read_or_all(values[-1])
        return changed(before, ctx.triggered_id, ctx.triggered[0]["value"]).write()

    @app.callback(
        Output("filters", "children"),
        Input("url", "search"),
        *(State(name, "value") for name in CONTROLS),
        prevent_initial_call=True,
    )
    def update_controls(search: str | None, *values: Any) -> Any:
        # Needed if the URL was not written by the controls, as after a link or the back button.
        try:
            query = SearchQuery.read(search)
        except UserError:
            return no_update
        shown = values_of(query).values()
        is_shown = [value or None for value in values] == [value or None for value in shown]
        return no_update if is_shown else controls(query, survey.names, survey.stages)


def changed(query: SearchQuery, name: str, value: Any) -> SearchQuery:
    """Return the query, back at page 1, after a change of one of :data:`CONTROLS`."""
    filters = query.filters.copy()
    if name == "only":
        for box, (_, checked) in ONLY.items():
            if box in value:
                filters[box] = checked
            elif filters.get(box) == checked:
                del filters[box]
    elif name in SLIDERS:
        filters[name] = SLIDERS[name].text(value)
    else:
        filters[name] = value.strip() if isinstance(value, str) else value
    filters = {name: value for name, value in filters.items() if value}
    return query._replace(filters=filters, page=1)
