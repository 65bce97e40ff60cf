"""An embedding folder as a data set: its keys, captions and metadata, for audits without a model."""

from __future__ import annotations

from pathlib import Path

from koda.config import DataConfig
from koda.datasets.base import Fault, Row, Source
from koda.datasets.blobs import Blob
from koda.datasets.reach import Reach
from koda.embeddings import EmbeddingTable


def read_stored(config: DataConfig) -> Source:
    """Read the samples of an embedding folder, koda's or clip-retrieval's; the embeddings themselves are not read.

    A sample without a caption has an empty one. With ``data.images`` the column `image_path` (or the one that
    ``data.image_column`` names) says which picture the report shows; without it there are none.

    Raises:
        DataError: no embedding folder, parts that do not fit together, or no key that names each sample.
    """
    table = EmbeddingTable.open(config.path, config.join)
    columns = {name: list(table.metadata[name]) for name in table.metadata if name != "key"}
    caption = next((name for name in (config.caption_column, "caption") if name in columns), None)
    picture = next((name for name in (config.image_column, "image_path") if name in columns), None)
    captions = [None] * table.n if caption is None else columns[caption]
    extra = tuple(name for name in columns if name not in {caption, picture})
    rows = []
    reach = None if config.images is None else Reach.of(config, config.images)
    for number, key in enumerate(table.keys):
        file = None if picture is None else columns[picture][number]
        image = None if file is None or reach is None else reach.image(str(file))
        rows.append(
            Row(
                key,
                image if isinstance(image, Blob) else None,
                "" if captions[number] is None else str(captions[number]),
                {name: columns[name][number] for name in extra},
                image if isinstance(image, Fault) else None,
                f"row {number + 1}",
            )
        )
    return Source(Path(config.path).name, rows, extra, folders=() if reach is None else reach.folders)
