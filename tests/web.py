"""A small web made of known pages: for every rule of the published filters some that it drops, many that pass all."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ENGLISH = """
The harbour wakes before the town does, and the first boats leave while the lamps are still lit.
A gardener who keeps bees will tell you that the weather of May decides the honey of July.
Most of the old road lies under the reservoir, but in dry years a mile of it comes back to the light.
We measured the height of the water every morning for three years and wrote the numbers in a green book.
Bread made with a slow dough keeps for a week, which is why the mill sold flour only on Mondays.
The committee agreed that the library should stay open late, and that nobody should have to pay for it.
If you walk north from the station you will come to a bridge that has been closed since the flood.
Nobody could say who had planted the walnut trees, though everyone had a story to go with them.
The engine was simple enough to be repaired with a hammer, a file and a good deal of patience.
She learned to read maps from her grandfather, who had drawn some of them himself with a steel pen.
In winter the ferry runs twice a day, and the captain knows each of the passengers by name.
The experiment failed twice for reasons that were dull, and a third time for one that was not.
A letter that took eleven days to arrive was answered within the hour and sent back on the same ship.
The museum holds four thousand shells, each with a label that says where and when it was found.
Farmers on the eastern side of the valley cut their hay later, because the sun reaches them last.
His theory was that every river has a sound of its own, and that a blind man could tell them apart.
They built the school out of stone from the quarry, and the quarry became the pond behind the school.
After the concert the players sat on the steps and argued about the tempo of the second movement.
The price of salt rose so quickly that the bakers began to weigh it with the scales of the jeweller.
There is a clock in the square that has been wrong for as long as anyone can remember.
When the snow melts the path is muddy, and the shop lends boots to those who have come without.
The translator kept a list of words for which there was no equal, and it grew longer every year.
An hour before the storm the birds left the meadow, and the dogs refused to go outside.
You can still see the marks on the wall where the children were measured on their birthdays.
The printer set the poem twice, once with the mistake and once without, and sold both.
Our teacher said that a proof should be short enough to remember and long enough to convince.
What the survey found was that people trusted the forecast more when it was read by a neighbour.
To repair the roof they needed slate of a kind that had not been quarried for a hundred years.
""".strip().splitlines()

GERMAN = """
Der Hafen wacht vor der Stadt auf, und die ersten Boote fahren, solange die Lampen noch brennen.
Wer Bienen hält, weiß, dass das Wetter im Mai über den Honig im Juli entscheidet.
Der größte Teil der alten Straße liegt unter dem Stausee, aber in trockenen Jahren taucht sie wieder auf.
Wir haben drei Jahre lang jeden Morgen den Wasserstand gemessen und in ein grünes Buch geschrieben.
Brot aus langsamem Teig hält eine Woche, darum verkaufte die Mühle nur montags Mehl.
Niemand wusste, wer die Walnussbäume gepflanzt hatte, obwohl jeder eine Geschichte dazu kannte.
""".strip().splitlines()


def prose(draw: random.Random, sentences: list[str], paragraphs: int = 3) -> str:
    """Paragraphs of a few sentences, none twice."""
    order = draw.sample(sentences, len(sentences))
    size = max(1, len(order) // paragraphs)
    return "\n".join(" ".join(order[i : i + size]) for i in range(0, size * paragraphs, size))


def page(kind: str, draw: random.Random) -> str:
    """A page of a kind; `plain` passes every rule."""
    text = prose(draw, ENGLISH)
    lines = text.splitlines()
    made = {
        "plain": text,
        "german": prose(draw, GERMAN) + "\n" + prose(draw, GERMAN, 2),
        "short": lines[0][:120],
        "symbols": " ".join(f"#{word}" if i % 5 == 0 else word for i, word in enumerate(text.split())),
        "bullets": "\n".join(f"- {sentence}" for sentence in draw.sample(ENGLISH, 20)),
        "ellipses": "\n".join(sentence[:-1] + "..." for sentence in draw.sample(ENGLISH, 20)),
        "numbers": text + "\n" + " ".join(str(draw.randrange(10**6)) for _ in range(200)),
        "repeated_lines": "\n".join(draw.sample(ENGLISH, 4) * 4),
        "repeated_words": text + "\n" + "buy the best one of them " * 60,
        "cookies": text + "\nThis site uses cookies to make your visit better.\nPlease enable Javascript to go on.",
        "lorem": text + "\nLorem ipsum dolor sit amet, they say.",
        "curly": text + "\nThe set { a, b } has two members in it.",
        "titles": "\n".join(f"Chapter {i}" for i in range(40)) + "\n" + text,
        "unended": "\n".join(sentence[:-1] for sentence in ENGLISH),
        "menu": "\n".join(["Home", "News", "SPORT AND WEATHER", "1234", "25 likes", "Sign-in to go on"] * 2 + [text]),
        "citations": text.replace(". ", "[12]. ").replace(".\n", " [edit].\n"),
    }
    return made[kind]


KINDS = (
    *("plain",) * 10,
    *("german", "short", "symbols", "bullets", "ellipses", "numbers", "repeated_lines", "repeated_words"),
    *("cookies", "lorem", "curly", "titles", "unended", "menu", "citations"),
)


def write_web(folder: Path, *, rounds: int = 8) -> None:
    """`web-*.parquet` with columns text, source and kind: 25 pages for each round, each tenth a copy of another."""
    draw = random.Random(11)
    folder.mkdir(parents=True, exist_ok=True)
    pages = [(kind, page(kind, draw)) for _ in range(rounds) for kind in KINDS]
    pages = [pages[i - 7] if i % 10 == 9 else one for i, one in enumerate(pages)]
    half = len(pages) // 2
    for number, part in enumerate((pages[:half], pages[half:])):
        kinds, texts = zip(*part, strict=True)
        table = pa.table({"text": list(texts), "kind": list(kinds), "source": ["web"] * len(texts)})
        pq.write_table(table, folder / f"web-{number}.parquet")
