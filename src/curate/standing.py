"""Which units of a dataset are done: receipts held against the files that are really there.

Looks at names, lengths and the last bytes, one listing for each folder; `verify` reads everything.
"""

from dataclasses import replace

from curate import store
from curate.manifest import Damaged, Manifest, Receipt, Shard, load_receipts, save_receipt


def intact(folder: str) -> Manifest | None:
    """The manifest of a whole dataset. Files that are gone or of another size reopen it: only they are made again."""
    manifest = Manifest.load(folder)
    if manifest is None:
        return None
    store.remove(store.join(folder, "units"))
    good, sizes = standing(folder), store.listing(folder)
    bad = {receipt.unit for receipt in manifest.units if receipt.unit not in good}
    if bad or any(sizes.get(shard.name) != shard.bytes for shard in manifest.finish):
        reopen(folder, manifest, bad)
        return None
    return manifest


def reopen(folder: str, manifest: Manifest, bad: set[str]) -> None:
    """Make a dataset unfinished again: units in `bad` lose their receipts, the others keep theirs."""
    for receipt in manifest.units:
        if receipt.unit not in bad:
            save_receipt(folder, replace(receipt, how={"phase": "kept"}))
        else:  # a process that was killed right behind the manifest left it
            store.remove(store.join(folder, "units", f"{receipt.unit}.json"))
    store.remove(store.join(folder, "manifest.json"))


def standing(folder: str) -> dict[str, Receipt]:
    """Units of a dataset, whole or not, whose files are all there in their full size."""
    try:
        manifest = Manifest.load(folder)
    except Damaged:  # it proves nothing: what it spoke of is made again
        manifest = None
    receipts = {**({one.unit: one for one in manifest.units} if manifest else {}), **load_receipts(folder)}
    sizes: dict[str, dict[str, int]] = {}

    def there(shard: Shard) -> bool:
        inner, _, name = shard.name.rpartition("/")
        place = store.join(folder, inner) if inner else folder
        if place not in sizes:
            sizes[place] = store.listing(place)
        return sizes[place].get(name) == shard.bytes and _ends_well(store.join(place, name))

    return {name: done for name, done in receipts.items() if all(there(file) for file in done.files)}


def _ends_well(uri: str) -> bool:
    """A parquet file ends with its magic; a look at four bytes is cheap on local disks and skipped on others."""
    if not uri.endswith(".parquet") or not store.is_local(uri):
        return True
    return store.read(uri, start=store.size(uri) - 4) == b"PAR1"
