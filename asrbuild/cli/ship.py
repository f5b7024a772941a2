"""``asrbuild ship``, ``bundle`` and ``pull``: from this store to an app team's, and back."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.cli.options import (
    ArtifactsOption,
    ExpiresOption,
    JsonOption,
    KeyOption,
    MaxBytesOption,
    OtherSignerOption,
    RemoteHelp,
    SigstoreOption,
    UnprovenOption,
    check_choice,
)

if TYPE_CHECKING:
    from asrbuild.handover.ship.formats.header import File
    from asrbuild.handover.ship.pull import Pulled
    from asrbuild.handover.ship.remotes.remote import Notify
    from asrbuild.handover.ship.signing.envelope import AnySigner

_LONGEST_SECONDS = 3650 * 86400.0
#: Off a terminal, only a file that takes a while is worth a line.
_LARGE = 1 << 20


def ship(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTIFACT...",
            help="A name, name/version, name/start-of-version, or a path; several: a set.",
        ),
    ],
    dest: Annotated[str, typer.Argument(help=f"{RemoteHelp} Or a file name in .asrb: one bundle.")],
    channel: Annotated[
        str | None, typer.Option(help="Then point this channel at it: stable, beta, ...")
    ] = None,
    set_name: Annotated[
        str | None, typer.Option("--set", metavar="NAME", help="What the set is pulled as.")
    ] = None,
    other_signer: OtherSignerOption = False,
    expires: ExpiresOption = None,
    allow_unproven: UnprovenOption = False,
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign an artifact and put it on a remote, where a version is never overwritten.

    Stopped at any moment, it leaves the remote readable, and run again it goes on. With --sigstore
    you sign as an identity instead of with a key: $SIGSTORE_ID_TOKEN, the CI job, or whoever signs
    in in the browser. Sigstore publishes that identity for ever.

    Several artifacts and --set make a set of variants, of which `asrbuild pull NAME --os iOS17`
    takes the first that runs there: say the preferred one first.

    Example: asrbuild ship demo-static-mlprogram s3://models/asr --channel beta
    Example: asrbuild ship demo-ios18 demo-ios17 s3://models/asr --set demo --channel beta
    Example: asrbuild ship demo-static-mlprogram s3://models/asr --sigstore
    """
    from dataclasses import asdict

    from asrbuild.artifact.lookup import resolve
    from asrbuild.artifact.manifest import read_manifest
    from asrbuild.base.errors import AsrbuildError, MisuseError
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.ship.channels.chain import newest
    from asrbuild.handover.ship.channels.seen import remember, require_seen
    from asrbuild.handover.ship.formats.frame import SUFFIX
    from asrbuild.handover.ship.push import require_proven, ship_set
    from asrbuild.handover.ship.push import ship as ship_to
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    if dest.endswith(SUFFIX) and "://" not in dest:
        for option, value in (("--channel", channel), ("--set", set_name), ("--expires", expires)):
            if value is not None:
                raise AsrbuildError(
                    f"a bundle file has no {option[2:]}", key=option, fix="ship to a remote"
                )
        bundle(given, Path(dest), key, sigstore, artifacts, as_json)
        return
    if len(given) > 1 and set_name is None:
        raise MisuseError(
            f"{len(given)} artifacts are shipped as a set, which needs a name",
            key="--set",
            fix="name it, --set demo; or ship one at a time",
        )
    if expires is not None and channel is None:
        raise MisuseError("--expires is for --channel", fix="name the channel, --channel stable")
    seconds = seconds_of(expires)
    paths = [resolve(artifacts or artifacts_root(), artifact) for artifact in given]
    if channel is not None and not allow_unproven:
        for path in paths:
            require_proven(read_manifest(path), path)
    config = config_root()
    remote = open_remote(dest)
    signer = signer_of(key, sigstore, config)
    trust = {**read_trust(config), **signer.trust}
    if channel is not None:
        name = set_name or read_manifest(paths[0]).name
        require_seen(remote, name, channel, trust, config)
    with on_its_way() as notify:
        if set_name is None:
            shipped = ship_to(
                paths[0], remote, signer=signer, trust=trust, channel=channel, seconds=seconds,
                other_signer=other_signer, notify=notify,
            )  # fmt: skip
        else:
            shipped = ship_set(
                paths, remote, set_name, signer=signer, trust=trust, channel=channel,
                seconds=seconds, other_signer=other_signer, notify=notify,
            )  # fmt: skip
    if shipped.channel and (record := newest(remote, shipped.name, shipped.channel, trust)):
        remember(remote, record, config)
    if as_json:
        terminal.say_json(asdict(shipped))
        return
    sent = f"{shipped.uploaded} files with {shipped.bytes:,} bytes sent"
    how = f"shipped, {sent}"
    if shipped.already:
        how = f"was there already{f', {sent} again' if shipped.uploaded else ''}"
    what = shipped.name if set_name is None else f"{shipped.name}, a set of {len(paths)},"
    terminal.say(f"{what} {shipped.version}: {how}, signed by {shipped.signer}")
    if shipped.channel:
        terminal.say(f"{shipped.name}@{shipped.channel} points at it (record {shipped.counter})")
    spec = f"{shipped.name}@{shipped.channel or shipped.version}"
    system = "" if set_name is None else " --os iOS17"
    terminal.say(f"asrbuild pull {spec} --from {shlex.quote(dest)}{system}")


def bundle(
    given: Annotated[
        list[str],
        typer.Argument(metavar="ARTIFACT...", help="One artifact, or several: variants of one."),
    ],
    target: Annotated[Path, typer.Argument(help="The file to write, NAME.asrb.")],
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an artifact as one signed file, to hand over in any way; or several, to choose from.

    Of several, say the one first that a device shall take where its system can load it: the bundle
    says what each needs. Contents that they share are stored once. The same artifacts and key give
    the same bytes; with --sigstore no two signatures are the same. `asrbuild pull FILE.asrb`
    unpacks it.

    Example: asrbuild bundle demo-static-mlprogram demo.asrb
    Example: asrbuild bundle demo-ios18 demo-ios17 demo-neuralnetwork demo.asrb
    """
    from asrbuild.artifact.lookup import resolve
    from asrbuild.base.errors import AsrbuildError
    from asrbuild.base.places import artifacts_root
    from asrbuild.cli.variants import print_variants
    from asrbuild.handover.ship.formats.bundle import write_bundle
    from asrbuild.handover.ship.formats.frame import SUFFIX
    from asrbuild.handover.ship.formats.variants import write_variants
    from asrbuild.handover.ship.push import require_passed
    from asrbuild.handover.ship.signing.keys import config_root

    if target.suffix != SUFFIX:
        raise AsrbuildError(
            f"a bundle's name ends in {SUFFIX}", file=target, fix=f"write {target}{SUFFIX}"
        )
    paths = [resolve(artifacts or artifacts_root(), artifact) for artifact in given]
    for path in paths:
        require_passed(path)
    signer = signer_of(key, sigstore, config_root())
    if len(paths) > 1:
        written = write_variants(paths, target, signer)
        print_variants(target, written.variants, signer.name, as_json)
        return
    header = write_bundle(paths[0], target, signer)
    size = target.stat().st_size
    if as_json:
        answer = {
            "name": header.name, "version": header.version, "file": str(target),
            "bytes": size, "header": header.digest, "keyid": signer.keyid,
        }  # fmt: skip
        terminal.say_json(answer)
        return
    terminal.say(
        f"{target}: {header.name} {header.version}, {size:,} bytes, signed by {signer.name}"
    )


def seconds_of(expires: str | None) -> float | None:
    """Seconds of ``--expires``; None where it is not given."""
    from asrbuild.base.errors import AsrbuildError
    from asrbuild.base.quantities import duration_seconds

    try:
        seconds = None if expires is None else duration_seconds(expires)
    except ValueError:
        seconds = 0.0
    if seconds is not None and not 0 < seconds <= _LONGEST_SECONDS:
        raise AsrbuildError(
            f"{expires!r} is no time that a record can be good for",
            key="--expires",
            fix="write a number and s, m, h or d, at most 3650d: 12h, 30d",
        )
    return seconds


def signer_of(key: str | None, sigstore: bool, config: Path) -> AnySigner:
    """The key to sign with; or an identity that is asked for now, and the key that is named."""
    from asrbuild.handover.ship.signing.keys import find_signer
    from asrbuild.handover.ship.signing.sigstore import sign_in

    if not sigstore:
        return find_signer(key, config)
    beside = find_signer(key, config) if key is not None else None
    return sign_in(beside, partial(terminal.say, err=True))


def pull(
    spec: Annotated[
        str, typer.Argument(help="NAME@VERSION, NAME@CHANNEL, NAME (its stable), or a .asrb file.")
    ],
    remote: Annotated[str | None, typer.Option("--from", "--remote", help=RemoteHelp)] = None,
    system: Annotated[
        str | None,
        typer.Option(
            "--os", help="What runs on iOS17, macOS14.2, ...: one of the variants, or it."
        ),
    ] = None,
    max_bytes: MaxBytesOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Demand a channel's record with an expiry, not over.")
    ] = False,
    remote_id: Annotated[
        str | None,
        typer.Option(help="What the remote is called in its channels' records: of a mirror."),
    ] = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch an artifact into your store, if a key you trust signed it, byte for byte.

    What is not as it was signed is refused with its reason, and nothing of it is kept. Of a set or
    a bundle of variants comes the one that a device of --os takes, or without it every one; a
    single artifact that does not run there is not fetched.

    Example: asrbuild pull demo-static-mlprogram@stable --from https://models.example.com/asr
    Example: asrbuild pull demo.asrb --os iOS17
    """
    from asrbuild.base.errors import AsrbuildError, MisuseError
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.ship.formats.frame import SUFFIX
    from asrbuild.handover.ship.formats.variants import holds_variants
    from asrbuild.handover.ship.pull import pull as pull_from
    from asrbuild.handover.ship.pull import pull_bundle, pull_variants
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    check_choice(system, max_bytes)
    if remote is None and (fresh or remote_id is not None):
        raise MisuseError("--fresh and --remote-id are for a remote", fix="name it with --from")
    config = config_root()
    root = artifacts or artifacts_root()
    trust = read_trust(config)
    if remote is None:
        if not spec.endswith(SUFFIX) and not Path(spec).exists():
            raise AsrbuildError(
                f"where from? {spec} is no {SUFFIX} file, and no remote is named",
                key="--from",
                fix="name the remote with --from",
            )
        if holds_variants(Path(spec)):
            several = pull_variants(
                Path(spec), root, trust=trust, system=system, max_bytes=max_bytes
            )
            _tell_pulled(several, as_json, every=system is None)
            return
        pulled = [pull_bundle(Path(spec), root, trust=trust, system=system, max_bytes=max_bytes)]
    else:
        with on_its_way() as notify:
            pulled = pull_from(
                spec, open_remote(remote, remote_id), root, trust=trust, config=config,
                notify=notify, system=system, max_bytes=max_bytes, fresh=fresh,
            )  # fmt: skip
        for keyid, one in read_trust(config).items():
            if keyid not in trust:
                terminal.say(
                    f"trusted from now on, as its channel was handed over to it: {one.label}"
                    f" {keyid}",
                    err=True,
                )
    _tell_pulled(pulled, as_json, every=system is None and pulled[0].of_set is not None)


@contextmanager
def on_its_way() -> Iterator[Notify]:
    """Shows what is sent or fetched: on a terminal in one line, elsewhere only large files."""

    under_way: list[File] = []
    done: list[File] = []

    def now() -> str:
        # What begins and ends in other threads may change it meanwhile.
        files = sorted(under_way.copy(), key=lambda file: -file.bytes)
        large = f"{files[0].path} ({files[0].bytes:,} bytes)" if files else "…"
        more = f" and {len(files) - 1} more" if files[1:] else ""
        return f"{large}{more}, {len(done)} done"

    with terminal.status("") as status:

        @contextmanager
        def shown(file: File) -> Iterator[None]:
            if not status.console.is_terminal and file.bytes >= _LARGE:
                terminal.say(f"  {file.path} ({file.bytes:,} bytes)", err=True)
            under_way.append(file)
            status.update(terminal.line(now()))
            yield
            under_way.remove(file)
            done.append(file)
            status.update(terminal.line(now()))

        yield shown


def _tell_pulled(pulled: list[Pulled], as_json: bool, *, every: bool) -> None:
    """One as an object or two lines; every variant as a list of them."""
    from dataclasses import asdict

    if as_json:
        rows = [asdict(one) | {"path": str(one.path)} for one in pulled]
        terminal.say_json(rows if every else rows[0])
        return
    for one in pulled:
        how = "was here already, whole" if one.already else f"{one.bytes:,} bytes"
        of_set = "" if one.of_set is None else f", of {one.of_set}"
        terminal.say(f"{one.name} {one.version}: {how}, signed by {one.signer}{of_set}")
        terminal.say(str(one.path))
