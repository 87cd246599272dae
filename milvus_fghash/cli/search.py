"""`milvus-fghash search`: find the nearest photos."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.options.common import consistency_option, encoder_options, json_option, own_namespace_option
from milvus_fghash.cli.options.connection import Connection, milvus_options
from milvus_fghash.cli.options.paths import NEW_PATH, PHOTO, READABLE_FOLDER
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.cli.terminal.output import show_json, show_table
from milvus_fghash.core.untrusted_text import printable

if TYPE_CHECKING:
    from milvus_fghash.datasets.read import Url
    from milvus_fghash.milvus.collection import Consistency
    from milvus_fghash.search.search import SearchResult


@click.command()
@click.argument("bundle", type=READABLE_FOLDER, required=False)
@click.option(
    "--image", "images", type=PHOTO, multiple=True, help="Query photo (file or URL). Needs BUNDLE. May be repeated."
)
@click.option("--id", "ids", multiple=True, help="Own id (such as a SKU) or row id of the query row. May be repeated.")
@own_namespace_option
@click.option(
    "--code", "codes", multiple=True, metavar="HEX", help="Query code in hexadecimal digits. May be repeated."
)
@click.option("-k", type=click.IntRange(1, 16_384), default=10, help="Number of hits per query.")
@click.option(
    "--filter", default="", show_default=False, help="Milvus filter expression, such as 'label == \"robin\"'."
)
@click.option("--max-distance", type=click.IntRange(min=0), help="Largest Hamming distance of a hit, inclusive.")
@click.option(
    "--complete-ties",
    is_flag=True,
    help="Return all rows at the distance of the last hit, even if that is more than -k.",
)
@click.option("--nprobe", type=click.IntRange(min=1), help="Number of bin_ivf_flat clusters to search.")
@consistency_option(default=None)
@encoder_options
@click.option("--html", type=NEW_PATH, help="Write the hits to an HTML page that contains the photos.")
@click.option("--photos", type=READABLE_FOLDER, help="Folder from which the photos were ingested, for --html.")
@milvus_options
@json_option
def search(
    bundle: Path | None,
    images: tuple[Path | Url, ...],
    ids: tuple[str, ...],
    namespace: str | None,
    codes: tuple[str, ...],
    k: int,
    filter: str,
    max_distance: int | None,
    complete_ties: bool,
    nprobe: int | None,
    consistency: Consistency | None,
    encoding: dict[str, Any],
    html: Path | None,
    photos: Path | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Find the nearest photos by photo, id or code.

    BUNDLE is the model that encoded the collection; only --image needs it. If BUNDLE is a folder of bundles, the
    matching one is used.

    \b
    Example: milvus-fghash search bundles/birds --image robin.jpg --html hits.html --photos photos
             milvus-fghash search --code 0f3a81c2d4e5 --max-distance 4
    """
    if not images and not ids and not codes:
        raise click.UsageError("give a query: --image, --id or --code")
    if images and bundle is None:
        raise click.UsageError("--image needs BUNDLE, the model that encoded the collection")
    if html and photos is None:
        raise click.UsageError("--html needs --photos, the folder from which the photos were ingested")
    from milvus_fghash.datasets.sources.location import name_of
    from milvus_fghash.datasets.sources.reader import image_source

    photo_of = {str(image) if isinstance(image, Path) else name_of(image.full): image_source(image) for image in images}
    params: dict[str, Any] = {
        "k": k,
        "filter": filter,
        "max_distance": max_distance,
        "complete_ties": complete_ties,
        "nprobe": nprobe,
        "consistency": consistency,
    }
    with connection.catalog(bundle=bundle, **encoding) as catalog:
        if bundle:
            catalog.check_bundle()
        found = [("image", name, catalog.search(photo, **params)) for name, photo in photo_of.items()]
        found += [("id", key, catalog.search(id=key, namespace=namespace, **params)) for key in ids]
        found += [("code", text, catalog.search(code=text, **params)) for text in codes]
        collection = catalog.collection
        row_of = {}
        for key in ids if html else ():
            rows = catalog.get([key], namespace=namespace)
            if len(rows):  # else deleted in the meantime
                row_of[key] = rows.paths[0], rows.labels[0]
    if html and photos:
        from milvus_fghash.search.gallery import Query, missing_photos, write_gallery
        from milvus_fghash.search.search import photo_file

        queries = []
        for kind, query, answer in found:
            path, label = row_of.get(query, ("", "")) if kind == "id" else ("", "")
            photo = photo_of.get(query) if kind == "image" else photo_file(photos, path)
            queries.append(Query(query, answer, photo, label))
        write_gallery(html, queries, photos, collection=collection, filter=filter)
        if line := missing_photos(photos, (hit.path for _, _, answer in found for hit in answer.hits)):
            notify(f"Warning: {line} (--photos)", logging.WARNING)
    if as_json:
        show_json([{"by": kind, "query": query, **asdict(answer)} for kind, query, answer in found])
    else:
        for kind, query, answer in found:
            _show(kind, query, answer)


def _show(kind: str, query: str, answer: SearchResult) -> None:
    from milvus_fghash.core.labels import label_text
    from milvus_fghash.datasets.tables.columns import OWN_ID

    click.echo(f"{kind} {printable(query)}")
    own_ids = any(hit.own_id for hit in answer.hits)
    rows: list[dict[str, Any]] = [
        {
            "distance": hit.distance,
            "label": label_text(hit.label),
            "path": hit.path,
            **({"own id": hit.own_id} if own_ids else {}),
            "id": hit.id,
            **hit.columns,
            "meta": {name: value for name, value in hit.meta.items() if name != OWN_ID or not hit.own_id},
        }
        for hit in answer.hits
    ]
    show_table(rows, answer.message if answer.note or answer.complete else f"{answer.message} (--complete-ties)")
