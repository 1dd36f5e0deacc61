# SPDX-License-Identifier: Apache-2.0
"""The language that a source describes, and its manifest."""

from model.data.images.sources import MarkovMesh
from model.data.manifest import Manifest
from model.data.source import Language, Pairs, Zipf
from model.data.synthetic import mesh, pairs, recall, zipf
from model.data.synthetic.records import SyntheticLanguage


def describe_language(source: Language) -> Manifest:
    """The manifest: of unlimited tokens, nothing on disk."""
    if isinstance(source, Pairs):
        return pairs.describe(source)
    if isinstance(source, MarkovMesh):
        return mesh.describe(source)
    return zipf.describe(source) if isinstance(source, Zipf) else recall.describe(source)


def open_language(source: Language) -> SyntheticLanguage:
    """What makes its windows, and knows what they cost."""
    if isinstance(source, Pairs):
        return pairs.PairsLanguage(source)
    if isinstance(source, Zipf):
        return zipf.ZipfLanguage(source)
    if isinstance(source, MarkovMesh):
        return mesh.MeshLanguage(source)
    return recall.RecallLanguage(source)
