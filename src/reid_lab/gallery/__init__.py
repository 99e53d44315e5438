"""A saved gallery: build it from a checkpoint and images, search it, keep it up to date.

Each action of `reid-lab gallery` is a function; names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.gallery.build import BuildResult, add_images, build_gallery
    from reid_lab.gallery.calibrate import CalibrationResult, calibrate_gallery
    from reid_lab.gallery.content import RemovalResult, remove_images
    from reid_lab.gallery.embedded_file import embed_to_file
    from reid_lab.gallery.embedder import Embedder, embed
    from reid_lab.gallery.evaluate import GalleryAccuracies, evaluate_gallery
    from reid_lab.gallery.fiftyone_csv import FiftyoneExport, export_fiftyone
    from reid_lab.gallery.images import Labelled
    from reid_lab.gallery.link import Link, LinkResult, link_tracklets
    from reid_lab.gallery.results import GalleryMatch, SearchResult
    from reid_lab.gallery.search import GallerySearch, search_gallery
    from reid_lab.gallery.soften import SoftenedMeans, SoftenResult, soften_images
    from reid_lab.gallery.store import SavedGallery
    from reid_lab.gallery.upgrade import ModelComparison, UpgradeResult, upgrade_gallery
    from reid_lab.gallery.vector_index import LoadResult, load_milvus
    from reid_lab.gallery.writer import create, extend
    from reid_lab.gallery_format.card import Card, GalleryError
    from reid_lab.gallery_format.embedding_files import EmbeddedFile

_HOMES = {
    "BuildResult": "build",
    "CalibrationResult": "calibrate",
    "Card": ".gallery_format.card",
    "EmbeddedFile": ".gallery_format.embedding_files",
    "Embedder": "embedder",
    "FiftyoneExport": "fiftyone_csv",
    "GalleryAccuracies": "evaluate",
    "GalleryError": ".gallery_format.card",
    "GalleryMatch": "results",
    "GallerySearch": "search",
    "Labelled": "images",
    "Link": "link",
    "LinkResult": "link",
    "LoadResult": "vector_index",
    "ModelComparison": "upgrade",
    "RemovalResult": "content",
    "SavedGallery": "store",
    "SearchResult": "results",
    "SoftenResult": "soften",
    "SoftenedMeans": "soften",
    "UpgradeResult": "upgrade",
    "add_images": "build",
    "build_gallery": "build",
    "calibrate_gallery": "calibrate",
    "create": "writer",
    "embed": "embedder",
    "embed_to_file": "embedded_file",
    "evaluate_gallery": "evaluate",
    "export_fiftyone": "fiftyone_csv",
    "extend": "writer",
    "link_tracklets": "link",
    "load_milvus": "vector_index",
    "remove_images": "content",
    "search_gallery": "search",
    "soften_images": "soften",
    "upgrade_gallery": "upgrade",
}
__all__ = [
    "BuildResult",
    "CalibrationResult",
    "Card",
    "EmbeddedFile",
    "Embedder",
    "FiftyoneExport",
    "GalleryAccuracies",
    "GalleryError",
    "GalleryMatch",
    "GallerySearch",
    "Labelled",
    "Link",
    "LinkResult",
    "LoadResult",
    "ModelComparison",
    "RemovalResult",
    "SavedGallery",
    "SearchResult",
    "SoftenResult",
    "SoftenedMeans",
    "UpgradeResult",
    "add_images",
    "build_gallery",
    "calibrate_gallery",
    "create",
    "embed",
    "embed_to_file",
    "evaluate_gallery",
    "export_fiftyone",
    "extend",
    "link_tracklets",
    "load_milvus",
    "remove_images",
    "search_gallery",
    "soften_images",
    "upgrade_gallery",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
