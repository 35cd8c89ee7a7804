"""`max-whisper serve`."""

from __future__ import annotations

import os
import re
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from max_whisper.cli.group import current
from max_whisper.cli.help import HeadedCommand
from max_whisper.cli.models import artifact_folder, prepare_silero
from max_whisper.cli.options import ThreadOptions, heading, offline_option, options_from
from max_whisper.cli.threads import use_threads
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.serve.options import LOOPBACK_NAMES, ServeOptions

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
ORIGIN = re.compile(r"\*|(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9][0-9]*))?")
USUAL_PORTS = {"http": "80", "https": "443"}
"""The ports that browsers leave out of an origin."""
KEY_VARIABLE = "MAX_WHISPER_API_KEY"
HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")

EXAMPLES = """
max-whisper serve --model artifacts/base
max-whisper serve --model base=artifacts/base --model english=artifacts/base.en
max-whisper serve --model artifacts/base --host 0.0.0.0 --api-key SECRET \\
    --ssl-certfile cert.pem --ssl-keyfile key.pem
max-whisper serve --model artifacts/base --wyoming 0.0.0.0:10300
"""

tls_option = heading("Encryption")
access_option = heading("Who may use it")


@click.command(cls=HeadedCommand, examples=EXAMPLES)
@click.option(
    "--model",
    "models",
    required=True,
    multiple=True,
    metavar="[NAME=]DIR_OR_SPEC",
    help='Folder that "build" made, or a spec, as for "transcribe". Give the option several times to serve several '
    "models; the first is also the answer to whisper-1. Requests choose by NAME, or else by the name of the folder.",
)
@options_from(ServeOptions)
@tls_option(
    "--ssl-certfile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Serve https with the certificates in this PEM file.  [default: serve http]",
)
@tls_option(
    "--ssl-keyfile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="PEM file with the private key.  [default: the key is in --ssl-certfile]",
)
@access_option(
    "--api-key",
    envvar=KEY_VARIABLE,
    metavar="KEY",
    help="Answer only requests with this key, except for /health and the page itself. Other users of this machine can "
    "read the options of a command; the variable MAX_WHISPER_API_KEY is read in its place.  [default: no key is asked "
    "for]",
)
@access_option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let the pages of this origin, such as https://example.org, use the server from a browser; * lets all. Give "
    "the option several times for several.  [default: only the server's own page]",
)
@access_option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Answer requests that call the server by this name as well. Where it is reached from this machine alone and "
    "asks for no key, pages of others can make a name of their own stand for this machine. Give the option several "
    "times for several.  [default: there localhost, 127.0.0.1, [::1] and --host; elsewhere any name]",
)
@options_from(ThreadOptions)
@offline_option
def serve(
    models: tuple[str, ...],
    ssl_certfile: Path | None,
    ssl_keyfile: Path | None,
    api_key: str | None,
    cors_origins: tuple[str, ...],
    hosts: tuple[str, ...],
    threads: int | None,
    offline: bool,
    **settings: Any,
) -> None:
    """Serve models to programs that speak OpenAI's API for speech to text, to Bazarr, and to Home Assistant.

    This needs pip install 'max-whisper[serve]'. Set the base URL of a client to the address that is shown, with /v1
    behind it. The server stops at SIGTERM or Ctrl-C, after the requests that it works on.
    """
    run = current()
    if ssl_keyfile is not None and ssl_certfile is None:
        raise UserError("--ssl-keyfile: is for https, give --ssl-certfile too")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key != ""):
        raise UserError("--api-key: expected letters, digits and signs of ASCII, without spaces around them")
    if api_key is None and KEY_VARIABLE in os.environ:  # click takes an empty variable for none
        raise UserError(f"{KEY_VARIABLE}: it is empty, expected a key: set it to one, or unset it to ask for none")
    for origin in cors_origins:
        parts = ORIGIN.fullmatch(origin)
        if parts is None or (parts["port"] and parts["port"] == USUAL_PORTS.get(parts["scheme"])):
            raise UserError(
                f"--cors-origin {origin}: expected * or an origin as browsers name it, such as https://example.org, in "
                "lower case, without a slash behind it and without the usual port"
            )
    for host in hosts:
        if not HOST.fullmatch(host):
            raise UserError(f"--allow-host {host}: expected the name of a host without a port, such as example.org")
    options = ServeOptions(**settings)
    use_threads(threads, waits=True)
    with run.interrupts.held():
        try:
            from max_whisper.serve.app import create_app
            from max_whisper.serve.listening import address_of, host_and_port, listen, shown_address
            from max_whisper.serve.metrics import Metrics
            from max_whisper.serve.pool import ModelPool
            from max_whisper.serve.run import serve as serve_app
            from max_whisper.serve.service import Service

            if options.wyoming is not None:
                import max_whisper.serve.wyoming.server  # noqa: F401 (the application imports it when it runs)
        except ImportError as error:
            is_wyoming = (error.name or "").partition(".")[0] == "wyoming"
            needs = "--wyoming needs the package wyoming" if is_wyoming else "serve needs starlette, uvicorn and others"
            raise UserError(f"{needs}: pip install 'max-whisper[serve]' ({error})") from error
    folders = named_folders(models, offline)
    if options.wyoming is not None and options.max_streams:
        _prepare_pauses()
    metrics = Metrics()
    pool = ModelPool(folders, options.unload_after, metrics.model_changed)
    listener = listen(options.host, options.port)
    also = None
    if options.wyoming is not None:
        also = listen(*host_and_port(options.wyoming, "--wyoming"), f"--wyoming {options.wyoming}")
    pool.preload()
    service = Service(options, pool, metrics)
    scheme = "http" if ssl_certfile is None else "https"
    if api_key is None and not is_local(listener):
        run.streams.warn(
            f"everybody who can reach {address_of(listener, scheme)} may use it: give --api-key to change that"
        )
    by_wyoming = "" if also is None else f", by Wyoming at {shown_address(also, 'tcp')}"
    if also is not None and not is_local(also):
        run.streams.warn(f"everybody who can reach {address_of(also, 'tcp')} may use it: Wyoming knows no keys")
    serve_app(
        create_app(service, _layers, api_key, cors_origins, names_of(listener, options.host, hosts, api_key), also),
        service,
        listener,
        certfile=None if ssl_certfile is None else str(ssl_certfile),
        keyfile=None if ssl_keyfile is None else str(ssl_keyfile),
        started=lambda: run.streams.say(
            f"serving {', '.join(folders)} at {shown_address(listener, scheme, '/v1')}{by_wyoming}"
        ),
    )


def _prepare_pauses() -> None:
    """Compiles the voice detector if need be, so that no voice command has to wait for that."""
    run = current()
    try:
        prepare_silero(None, "do without it")
    except MaxWhisperError as error:
        run.streams.warn(f"Wyoming's clients get no text before the end of their sound: {error}")


def is_local(listener: socket.socket) -> bool:
    """Returns whether a socket is reached from this machine alone."""
    return ip_address(listener.getsockname()[0]).is_loopback


def names_of(listener: socket.socket, host: str, hosts: tuple[str, ...], api_key: str | None) -> frozenset[str] | None:
    """Returns the names by which a server may be called; None for any.

    Which names lead to a server of a network, only its owner knows. A page that has taken over a name has no key.
    """
    if api_key is not None or not is_local(listener):
        return None
    return frozenset(name.lower() for name in (*LOOPBACK_NAMES, f"[{host}]" if ":" in host else host, *hosts))


def _layers(folder: Path) -> dict[str, Any]:
    """Returns the layers of an artifact. What reads specs is imported when a page asks for them, and not before."""
    from max_whisper.tools.layers import layer_report

    return layer_report(folder)


def named_folders(models: tuple[str, ...], offline: bool) -> dict[str, Path]:
    """Returns the folder of each model by the name that requests choose it by, in their order.

    Raises MaxWhisperError for a model that is not there or cannot be built, UserError for a name that is none or taken.
    """
    folders: dict[str, Path] = {}
    for text in models:
        name, sign, source = text.partition("=")
        if not sign or "/" in name:
            name, source = "", text
        folder = artifact_folder(source, offline)
        name = name or folder.resolve().name
        if not NAME.fullmatch(name):
            raise UserError(
                f"--model {text}: expected a name of letters, digits, dots and dashes: give one as NAME={source}"
            )
        if name in folders:
            raise UserError(
                f"--model {text}: another model is called {name}: give it a name of its own as NAME={source}"
            )
        folders[name] = folder
    return folders
