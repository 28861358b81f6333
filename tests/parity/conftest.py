"""Discovers the reference cases: one test a case, none named here."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(os.environ.get("ZOO_REFERENCE", Path(__file__).parents[2] / "../shared/reference"))


@dataclass(frozen=True)
class Case:
    """One recorded run of upstream's code."""

    path: Path
    spec: dict[str, Any]

    @property
    def component(self) -> tuple[str, str]:
        return self.spec["system"], self.spec["component"]

    @property
    def config(self) -> dict[str, Any]:
        return self.spec.get("config", {})

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """`inputs`, `weights` or `outputs`."""
        name = self.path.stem
        if kind == "weights" and "weights_file" in self.spec:
            return load_file(self.path.with_name(self.spec["weights_file"]))
        path = self.path.with_name(f"{name}.{kind}.safetensors")
        # the expectations of some cases stand in the JSON alone
        return load_file(path) if path.exists() else {}

    def compare(self, ours: dict[str, Tensor]) -> None:
        """Every output upstream recorded, at the tolerance of the longest prefix that fits:
        max|ours - ref| <= atol + rtol · max|ref|; integers exactly."""
        expected = self.tensors("outputs")
        missing = sorted(set(expected) - set(ours))
        assert not missing, f"not computed: {missing}"
        for name, reference in expected.items():
            found = ours[name].detach()
            assert found.shape == reference.shape, f"{name}: {found.shape} != {reference.shape}"
            if not reference.is_floating_point():
                assert torch.equal(found.to(reference.dtype), reference), name
                continue
            if not reference.numel():
                continue
            nan = reference.isnan()
            assert torch.equal(found.isnan(), nan), f"{name}: NaN in other places"
            found, reference = found.masked_fill(nan, 0), reference.masked_fill(nan, 0)
            prefixes = [p for p in self.spec["tolerance"] if p != "*" and name.startswith(p)]
            bound = self.spec["tolerance"][max(prefixes, key=len, default="*")]
            allowed = bound["atol"] + bound["rtol"] * float(reference.abs().max())
            difference = float((found.double() - reference.double()).abs().max())
            assert difference <= allowed, f"{name}: {difference:.3g} > {allowed:.3g}"


def discover() -> list[Case]:
    """All case files under the root; data files have no component."""
    cases = []
    for path in sorted(ROOT.glob("*/*.json")):
        spec = json.loads(path.read_text())
        if isinstance(spec, dict) and "component" in spec and "tolerance" in spec:
            cases.append(Case(path, spec))
    return cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = discover()
        if not cases:
            reason = f"no reference cases: ZOO_REFERENCE or {ROOT} is needed"
            metafunc.parametrize("case", [pytest.param(None, marks=pytest.mark.skip(reason))])
            return
        ids = [f"{c.spec['system']}/{c.path.stem}" for c in cases]
        metafunc.parametrize("case", cases, ids=ids)
