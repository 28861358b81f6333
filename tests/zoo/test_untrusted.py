"""Files that others made: what would run code, leave its folder, or unfold without end is refused
by name, and nothing of it ran."""

import io
import json
import os
import pickle
import resource
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import zoo
from shared.checkpoint_file import read_checkpoint, write_checkpoint
from shared.errors import ConfigError, EvaluationError, UnknownNameError, WeightsError, ZooError
from shared.evaluation.embeddings.embedding_files import load_embeddings
from shared.files import inside
from shared.model import Model
from shared.run_folder import read_metrics
from shared.training.config import InitConfig
from shared.training.init import load_init
from shared.untrusted import check_zip, read_json
from shared.weights import load_strictly, read_state_dict
from zoo.cli.main import main
from zoo.config import load_yaml
from zoo.paths import cache_folder

SECRET = "what-the-environment-holds"
DATA = ["data=simulated_variable_stars", "data.n_stars=12"]


class Payload:
    """What a hostile file would run: it makes the file `ran` in the current folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


@pytest.fixture(scope="module")
def model() -> Model:
    return zoo.load("star-clip", weights="random")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty current folder, in which no payload may have left its mark at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SECRET", SECRET)
    yield
    assert not Path("ran").exists()


@pytest.fixture
def folder(model: Model) -> Path:
    model.save(Path("model"), "# a card\n")
    return Path("model")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command line answers with."""
    assert main(arguments) == 2
    found = capsys.readouterr()
    assert found.err.count("\n") == 1, found.err
    assert SECRET not in found.out + found.err
    return found.err


# -- pickles ---------------------------------------------------------------------------------------


def torch_zip(path: Path) -> None:
    torch.save({"weight": torch.ones(2), "more": Payload()}, path)


def torch_legacy(path: Path) -> None:
    torch.save({"more": Payload()}, path, _use_new_zipfile_serialization=False)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(), protocol=2))


def joblib_like(path: Path) -> None:
    path.write_bytes(pickle.dumps({"coef_": np.ones(2), "more": Payload()}, protocol=4))


PICKLES = [
    ("m.pt", torch_zip),
    ("m.pth", torch_legacy),
    ("m.ckpt", bare_pickle),
    ("m.bin", torch_zip),
    ("m.joblib", joblib_like),
    ("m.safetensors", bare_pickle),
    ("m.safetensors", torch_zip),
]


def test_the_payload_works() -> None:
    bare_pickle(Path("m.pkl"))
    pickle.loads(Path("m.pkl").read_bytes())
    Path("ran").unlink()


@pytest.mark.parametrize(("name", "write"), PICKLES)
def test_a_pickle_never_runs(
    name: str, write: Callable[[Path], None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(name)
    write(path)
    with pytest.raises(WeightsError, match=name) as caught:
        read_state_dict(path)
    # torch's own message goes on to say how the code could be run
    assert "weights_only" not in str(caught.value)
    message = refused(["import", "astrom3", name], capsys)
    assert (
        "holds code (posix.system); it was not run" in message
        or (
            name == "m.safetensors"
            and "By its content it is a pickle; nothing of it was run" in message
        )
        or (name == "m.joblib" and "no code in it was run" in message)
    ), message
    pytest.importorskip("timm")
    with pytest.raises(WeightsError, match=name):
        zoo.embed("timm:resnet10t", "image_folder", weights=name)
    write(folder / "model.safetensors")
    for load in (
        lambda: zoo.load(folder),
        lambda: load_init(zoo.load("star-clip", weights="random"), InitConfig(str(folder))),
    ):
        with pytest.raises(WeightsError, match=r"By its content it is a pickle|no safetensors"):
            load()


@pytest.mark.slow
def test_a_checkpoint_with_code_is_not_resumed(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["domain=astro", "data.n_stars=60", "trainer.max_epochs=1", "evaluator=null"]
    assert main(["train", *run, "trainer.device=cpu", "run_folder=run"]) == 0
    capsys.readouterr()
    content = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    for path in Path("run/checkpoints").glob("*.ckpt"):
        # whole by its hash: whoever sends a file can compute that, too
        write_checkpoint(path, {**content, "more": Payload()}, Path("before"))
    assert "holds code (posix.system); it was not run" in refused(["train", "resume=run"], capsys)


def test_arrays_of_objects_are_not_unpickled(capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.array([Payload(), "a", "b"], dtype=object)
    np.savez("e.npz", embeddings=np.ones((3, 2)), labels=labels)
    assert "e.npz: an array of Python objects" in refused(["eval", "embeddings=e.npz"], capsys)
    np.save(Path("e.npy"), labels)
    Path("e.npy").rename("e.npz")
    assert "never unpickled" in refused(["eval", "embeddings=e.npz"], capsys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state": {}, "param_groups": []}, "state of an optimiser, not weights"),
        ({"weight": [1.0, 2.0]}, "'weight' is a list, no tensor"),
        ([torch.ones(1)], "no state dict"),
        ({1: torch.ones(1)}, "no state dict"),
        ({"weight": torch.ones(3).to_sparse()}, "'weight' is a sparse"),
        ({"weight": torch.ones(3, device="meta")}, "'weight' is a sparse, empty"),
    ],
)
def test_pickles_without_weights(content: Any, words: str) -> None:
    torch.save(content, "m.pt")
    with pytest.raises(WeightsError, match=words):
        read_state_dict(Path("m.pt"))


def test_wrapped_state_dicts_are_found() -> None:
    weights = {"weight": torch.arange(3.0)}
    for content in (weights, {"state_dict": weights, "epoch": 3}, {"model": weights}):
        torch.save(content, "m.pt")
        assert torch.equal(read_state_dict(Path("m.pt"))["weight"], weights["weight"])


# -- archives --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x.npy", "a/../../x.npy", "/x.npy", "C:\\x.npy", "..\\x.npy"])
def test_members_that_leave_the_archive(name: str) -> None:
    with zipfile.ZipFile("e.npz", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"")
    with pytest.raises(EvaluationError, match=r"e\.npz is refused: its member .* leads out"):
        load_embeddings(Path("e.npz"))
    Path("e.npz").rename("m.pt")
    with pytest.raises(WeightsError, match=r"m\.pt is refused: its member .* leads out"):
        read_state_dict(Path("m.pt"))


def test_links_in_archives() -> None:
    link = zipfile.ZipInfo("labels.npy")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile("e.npz", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(
        EvaluationError, match=r"e\.npz is refused: its member 'labels\.npy' is a l"
    ):
        load_embeddings(Path("e.npz"))


def bomb(path: Path, member: str, head: bytes = b"") -> None:
    """300 MB of zeros in 300 kB."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(member, "w") as f,
    ):
        f.write(head)
        for _ in range(300):
            f.write(bytes(10**6))


def npy_head(shape: tuple[int, ...]) -> bytes:
    head = io.BytesIO()
    description = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, description)
    return head.getvalue()


def test_decompression_bombs() -> None:
    bomb(Path("e.npz"), "embeddings.npy", npy_head((75_000_000, 1)))
    with pytest.raises(EvaluationError, match=r"e\.npz is refused: its .* would unpack to 300,000"):
        load_embeddings(Path("e.npz"))
    bomb(Path("m.pt"), "archive/data/0")
    with pytest.raises(WeightsError, match=r"m\.pt is refused: its .* would unpack to 300,000,000"):
        read_state_dict(Path("m.pt"))
    # what compresses well and is small passes
    np.savez_compressed("e.npz", embeddings=np.ones((9, 50)), labels=np.zeros(9, int))
    check_zip(Path("e.npz"))
    assert len(load_embeddings(Path("e.npz"))) == 9


def test_a_parquet_file_of_repetitions() -> None:
    """A run of one value takes the same few bytes for any number of rows."""
    column = pa.array(np.zeros(20_000_000, dtype=np.int8))
    pq.write_table(pa.table({"label": column, "id": column}), "e.parquet")
    with pytest.raises(EvaluationError, match=r"e\.parquet is refused: .* unpack to 320,000,000"):
        load_embeddings(Path("e.parquet"))


def test_sizes_that_no_machine_has() -> None:
    with zipfile.ZipFile("e.npz", "w") as archive:
        archive.writestr("embeddings.npy", npy_head((2**40, 2**20)) + b"few")
        archive.writestr("labels.npy", npy_head((3,)) + bytes(12))
    with pytest.raises(EvaluationError, match=r"e\.npz: damaged or truncated"):
        load_embeddings(Path("e.npz"))
    path = Path("m.safetensors")
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(WeightsError, match=r"m\.safetensors is damaged.*header too large"):
        read_state_dict(path)
    claim = {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**62]}
    head = json.dumps({"weight": claim}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    with pytest.raises(WeightsError, match=r"m\.safetensors is damaged"):
        read_state_dict(path)
    # one number that says it is 2⁴⁰ of them takes no memory until somebody looks at all
    torch.save({"weight": torch.ones(1).expand(2**40, 2)}, "m.pt")
    with pytest.raises(WeightsError, match="weight is \\(1099511627776, 2\\) in the file and"):
        load_strictly(torch.nn.Linear(2, 2, bias=False), read_state_dict(Path("m.pt")), "m.pt")


@pytest.mark.parametrize(
    ("key", "part", "value", "words"),
    [
        ("embed_dim", None, 10**6, "of a far larger model than the weights"),
        ("depth", "encoder", 10**9, "of a far larger model than the weights"),
        ("embed_dim", None, 10**14, "damaged or do not belong together"),
        ("embed_dim", None, 10**30, "damaged or do not belong together"),
        ("num_classes", "classifier", -3, "damaged or do not belong together"),
    ],
)
def test_a_config_of_a_model_that_no_machine_has(
    key: str, part: str | None, value: int, words: str, folder: Path
) -> None:
    """The weights say how large a model is: no memory and no time go into another."""
    config = json.loads((folder / "config.json").read_text())
    if part == "classifier":
        config[part] = {key: value}
    else:
        (config["modalities"]["photometry"][part] if part else config)[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(WeightsError, match=rf"config\.json.*{words}"):
        zoo.load(folder, accept_edits=True)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 20
    assert after.ru_maxrss - before.ru_maxrss < 2**20  # KiB


def test_a_flipped_bit_in_what_torch_saved() -> None:
    torch.save({"weight": torch.arange(1000.0)}, "m.pt")
    assert read_state_dict(Path("m.pt"))["weight"][500] == 500
    content = bytearray(Path("m.pt").read_bytes())
    content[content.index(torch.tensor([500.0, 501.0]).numpy().tobytes()) + 3] ^= 1
    Path("m.pt").write_bytes(content)
    with pytest.raises(WeightsError, match="the check sum of m/data/0 does not fit"):
        read_state_dict(Path("m.pt"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a":' * 100_000, "nested too deeply"),
        ("[1, 2]", "no mapping"),
        ('{"a": 1', "damaged or no JSON"),
        ("1" * 17 * 2**20, "more than the 16,777,216 that"),
    ],
)
def test_json(text: str, words: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=rf"config\.json.*{words}"):
        zoo.load(folder)


def test_a_pipe_is_not_waited_for() -> None:
    os.mkfifo("config.json")
    with pytest.raises(ZooError, match="a pipe, socket or device"):
        read_json(Path("config.json"))
    os.mkfifo("config.yaml")
    with pytest.raises(ConfigError, match=r"no config\.yaml"):
        load_yaml(Path("config.yaml"))
    os.mkfifo("last.ckpt")
    with pytest.raises(WeightsError, match="no regular file"):
        read_checkpoint(Path("last.ckpt"))
    os.mkfifo("metrics.csv")
    with pytest.raises(WeightsError, match="no regular file"):
        read_metrics(Path("metrics.csv"))
    for name in ("m.pt", "m.safetensors"):
        os.mkfifo(name)
        with pytest.raises(WeightsError, match="no weights file"):
            read_state_dict(Path(name))


# -- links and names -------------------------------------------------------------------------------


def test_links_out_of_a_model_folder(folder: Path, model: Model) -> None:
    for name in ("config.json", "schema.json", "model.safetensors"):
        (folder / name).rename(name)
        (folder / name).symlink_to(Path(name).absolute())
        with pytest.raises(WeightsError, match=rf"model/{name} leads out of .*model"):
            zoo.load(folder)
        (folder / name).unlink()
        Path(name).rename(folder / name)
    # a link to the folder, links in it, and the hub's cache with its links are fine
    (folder / "model.safetensors").rename(folder / "weights")
    (folder / "model.safetensors").symlink_to("weights")
    Path("link").symlink_to(folder)
    snapshot = Path("hub/models--a--b/snapshots/0123")
    snapshot.mkdir(parents=True)
    for name in ("config.json", "schema.json", "model.safetensors"):
        blob = snapshot.parents[1] / f"blob-{name}"
        blob.write_bytes((folder / name).read_bytes())
        (snapshot / name).symlink_to(f"../../{blob.name}")
    for good in (Path("link"), snapshot):
        assert zoo.load(good).fingerprint() == model.fingerprint()


def test_inside() -> None:
    root = Path("root")
    (root / "sub").mkdir(parents=True)
    Path("outside").write_text("x")
    (root / "good").symlink_to("sub")
    (root / "bad").symlink_to("../outside")
    for good in (root / "a", root / "sub" / ".." / "a", root / "good" / "a", root):
        assert inside(root, good) == good
    for bad in ("../outside", "bad", "sub/../../outside", "/etc/passwd"):
        with pytest.raises(ZooError, match="leads out of root"):
            inside(root, root / bad)


def test_names_that_are_paths(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError, match=r"There is no model folder \.\./\.\./x"):
        zoo.load("../../x")
    with pytest.raises(WeightsError, match="no model folder"):
        zoo.load("star-clip:../../x")
    assert "'../../x'" in refused(["import", "astrom3:../../x", "nothing"], capsys)
    for variant in ("clip-../../x", "..", "", "a/b", "a\\b", "-x", "a\n"):
        with pytest.raises(UnknownNameError, match="no name of a model or variant"):
            cache_folder("astrom3", variant)
    assert cache_folder("astrom3", "clip-42").name == "clip-42"


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("encoder", {"name": "os:system"}, "There is no encoder 'os:system'"),
        ("preprocess", {"name": "os.system"}, "There is no preprocessor 'os.system'"),
        ("head", {"name": "subprocess:Popen"}, "subprocess:Popen"),
        ("encoder", {"_target_": "os.system"}, "has no setting '_target_'"),
    ],
)
def test_a_model_folder_names_registered_parts_only(
    part: str, change: dict[str, str], words: str, folder: Path
) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["modalities"]["photometry"][part] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ZooError, match=words):
        zoo.load(folder, accept_edits=True)


# -- configs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override",
    [
        "data.root=${oc.env:SECRET}",
        "run_folder='${oc.env:SECRET}'",
        "modalities=['${oc.env:SECRET}']",
        "+model.x={a: ['${oc.env:SECRET}']}",
        "+model.x={${oc.env:SECRET}: 1}",
        "+model.${oc.env:SECRET}=1",
        "data=${oc.env:SECRET}",
        "domain=${oc.env:SECRET}",
        "seed=${oc.decode:1}",
        "run_folder=${now:%Y}",
        "+x=${oc.create:{a: 1}}",
        "seed=${trainer.max_epochs}",
    ],
)
def test_interpolations_at_the_command_line(
    override: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(["train", "domain=astro", "--dry-run", override], capsys)
    assert "interpolations (${…}) are not allowed" in message
    assert not Path("runs").exists()


def test_interpolations_in_python() -> None:
    with pytest.raises(ConfigError, match=r"modalities\[0\] is '\$\{oc.env:SECRET\}'"):
        zoo.evaluate("star-clip", modalities=["${oc.env:SECRET}"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("domain: ${oc.env:SECRET}\n", r"domain is '\$\{oc.env:SECRET\}': interpolations"),
        ("modalities: [a, '${oc.env:SECRET}']\n", r"modalities\[1\] is"),
        ("data: {x: [{y: '${oc.decode:1}'}]}\n", r"data\.x\[0\]\.y is"),
        ("data: {'${oc.env:SECRET}': 1}\n", "interpolations"),
        ("x: !!python/object/apply:os.system ['touch ran']\n", "the tag .*os.system"),
        ("x: !!python/name:os.system\n", "the tag .*os.system"),
        ("x: !unknown 1\n", "the tag '!unknown'"),
        ("a: &a [x, x]\nb: [*a, *a]\n", r"aliases \(\*a\)"),
        ("[" * 50_000, "nested too deeply"),
        ("x: " + "x" * 2**20, "more than the 1,048,576 that"),
        ("- a\n", "no mapping"),
        ("a: 1\na: 2\n", "damaged"),
        ("\0", "damaged"),
    ],
)
def test_the_config_of_a_run(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"run/config\.yaml.*{words}") as caught:
        load_yaml(Path("run/config.yaml"))
    assert SECRET not in str(caught.value)
    refused(["train", "resume=run"], capsys)


def test_billion_laughs_take_no_time() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    Path("config.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="aliases"):
        load_yaml(Path("config.yaml"))


# -- what is printed -------------------------------------------------------------------------------


def test_markup_and_escapes_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    classes = ["[/red]a", "[bold", ":smile:", "\x1b[31mred"]
    save = {"embedding.[/blue]x": rng.standard_normal((40, 3)), "labels": np.array(classes * 10)}
    np.savez("e.npz", **save)
    assert main(["eval", "embeddings=e.npz", "run_folder='[bold]out'", "n_resamples=50"]) == 0
    shown = capsys.readouterr().out
    assert "[/blue]x" in shown
    assert "[bold]out" in shown
    assert "\x1b[31m" not in shown
    assert Path("[bold]out/results.jsonl").is_file()
    (folder := Path("odd")).mkdir()
    (folder / "\x1b[31m.npz").write_bytes(b"")
    assert "\x1b" not in refused(["eval", "embeddings=odd/\x1b[31m.npz"], capsys)
