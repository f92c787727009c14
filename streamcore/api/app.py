"""An app: a topology that the command line can build, with its settings, and a report of what it found."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streamcore.api.environment import StreamEnvironment
from streamcore.errors import UsageError
from streamcore.job.status import JobResult, JobStatus

_TYPES = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class App:
    """A topology with settings.

    Attributes:
        build: called with the environment and the settings as keyword arguments; its signature says which
            settings there are, their types (str, int, float, bool) and defaults.
        report: called after the run with the result and the same settings; returns text for the user.
        progress: a short text for the progress line, from the status of the running job.
    """

    name: str
    build: Callable[..., Any]
    summary: str = ""
    report: Callable[..., str] | None = None
    progress: Callable[[JobStatus], str] | None = None

    def settings(self, given: Mapping[str, str]) -> dict[str, Any]:
        """The settings of a run: the defaults, and what the user gave as text, converted.

        Raises:
            UsageError: an unknown setting, a missing one, or a text that isn't of the setting's type.
        """
        parameters = list(inspect.signature(self.build).parameters.values())[1:]
        known = {parameter.name: parameter for parameter in parameters}
        for parameter in parameters:
            if parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
                raise UsageError(
                    f"{self.name}: {parameter} can't be a setting", hint="name each setting, with a type and a default"
                )
        for name in given:
            if name not in known:
                raise UsageError(
                    f"{self.name} has no setting {name!r}", hint=f"its settings are: {', '.join(known) or 'none'}"
                )
        values: dict[str, Any] = {}
        for name, parameter in known.items():
            if name in given:
                values[name] = _convert(self.name, name, given[name], self._type_of(parameter))
            elif parameter.default is inspect.Parameter.empty:
                raise UsageError(f"{self.name} needs the setting {name!r}", hint=f"add --set {name}=VALUE")
            else:
                values[name] = parameter.default
        return values

    def _type_of(self, parameter: inspect.Parameter) -> Any:
        """str, int, float or bool; annotations may be text (`from __future__ import annotations`)."""
        declared = parameter.annotation
        if isinstance(declared, str):
            declared = _TYPES.get(declared.replace(" ", "").removesuffix("|None").removeprefix("None|"), declared)
        options = [option for option in typing.get_args(declared) if option is not type(None)]
        declared = options[0] if len(options) == 1 else declared
        if declared is inspect.Parameter.empty:
            return str
        if declared not in _TYPES.values():
            raise UsageError(
                f"{self.name}: setting {parameter.name!r} is declared as {parameter.annotation}",
                hint="a setting is a str, int, float or bool",
            )
        return declared

    def make(self, env: StreamEnvironment, settings: Mapping[str, Any]) -> None:
        """Builds the topology in `env`."""
        self.build(env, **settings)

    def describe_result(self, result: JobResult, settings: Mapping[str, Any]) -> str:
        """The app's own report of a run; empty if it has none."""
        return self.report(result, **settings) if self.report else ""


def _convert(app: str, name: str, text: str, wanted: Any) -> Any:
    if wanted is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() in words:
            return words[text.lower()]
    elif wanted in (int, float):
        try:
            return wanted(text.replace("_", ""))
        except ValueError:
            pass
    else:
        return text
    raise UsageError(f"{app}: setting {name} must be {wanted.__name__}, not {text!r}")
