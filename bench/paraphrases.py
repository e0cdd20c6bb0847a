"""Paraphrases made by rule: the same content in other words, in another order, or shorter.

They are what a machine makes, not what people write: words are exchanged from a small table, sentences move, every
third goes. A measure that finds these may still miss a human's paraphrase; one that misses these will miss that too.
"""

import re
from collections.abc import Callable

import numpy as np

_PAIRS = """
about:around; above:over; accept:agree to; achieve:reach; acquire:obtain; allow:let; also:too; although:though;
always:at all times; amount:quantity; answer:reply; appear:seem; area:region; ask:request; assist:help; attempt:try;
bad:poor; because:since; begin:start; beginning:outset; below:under; big:large; build:construct; business:firm;
buy:purchase; called:named; cause:lead to; certain:sure; change:alter; check:verify; choose:pick; city:town;
clear:plain; close:shut; collect:gather; common:usual; company:enterprise; complete:finish; contain:hold;
correct:right; cost:price; country:nation; create:make; current:present; customer:client; danger:risk;
decide:determine; decrease:fall; describe:depict; difficult:hard; directory:folder; display:show; divide:split;
during:in the course of; each:every; early:soon; easy:simple; effect:result; employ:use; end:finish;
enough:sufficient; enter:go into; entire:whole; error:mistake; especially:above all; example:instance; expect:await;
explain:set out; fast:quick; find:discover; first:initial; for example:for instance; frequently:often;
function:routine; gave:handed; get:receive; give:hand; goal:aim; good:fine; great:grand; group:set; grow:rise;
happen:occur; high:tall; home:house; however:but; huge:enormous; idea:notion; important:major; improve:better; in
order to:to; include:comprise; increase:growth; inside:within; job:task; keep:retain; kind:sort; know:be aware of;
last:final; later:afterwards; leave:depart; list:enumeration; little:small; look:glance; main:chief; many:numerous;
maybe:perhaps; mean:signify; method:way; mistake:fault; modify:adjust; money:funds; more than:over; most:the majority
of; near:close to; need:require; new:recent; next:following; number:figure; often:frequently; old:former; only:just;
open:unlock; option:choice; part:portion; people:persons; perform:carry out; period:span; place:spot; plan:scheme;
point:spot; possible:feasible; price:cost; problem:trouble; produce:yield; protect:guard; provide:supply;
question:query; quickly:fast; rapidly:fast; read:peruse; reason:motive; receive:get; remove:delete; report:account;
result:outcome; return:give back; rich:wealthy; road:street; said:stated; same:identical; say:state; see:notice;
select:choose; sell:trade; send:dispatch; several:various; show:reveal; shown:displayed; sick:ill; similar:alike;
small:minor; sometimes:at times; speak:talk; specify:give; start:launch; stop:halt; strange:odd; strong:firm;
sum:total; sure:certain; take:seize; talk:speak; tell:inform; test:trial; therefore:so; think:believe; time:moment;
told:informed; total:sum; true:correct; type:kind; use:employ; used:employed; user:operator; value:worth; very:highly;
want:wish; war:conflict; way:manner; whole:entire; wonderful:splendid; work:labour; world:globe; write:compose;
wrong:false; year:twelvemonth; yet:still; is not:isn't; are not:aren't; do not:don't; does not:doesn't; cannot:can't;
it is:it's; that is:that's; will not:won't; was not:wasn't
"""
WORDS = dict(pair.split(":") for pair in _PAIRS.replace("\n", " ").strip().split("; "))
_FOUND = re.compile(r"\b(" + "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True)) + r")\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


def reworded(text: str, draw: np.random.Generator) -> str:
    """Every word or phrase of the table by the other one."""
    return _FOUND.sub(lambda found: _like(WORDS[found[0].lower()], found[0]), text)


def reordered(text: str, draw: np.random.Generator) -> str:
    """The same sentences in another order."""
    sentences = split(text)
    return " ".join(sentences[at] for at in draw.permutation(len(sentences)))


def shortened(text: str, draw: np.random.Generator) -> str:
    """Two of three sentences, in their order, reworded."""
    sentences = split(text)
    kept = sorted(draw.permutation(len(sentences))[: max(1, round(len(sentences) * 2 / 3))].tolist())
    return reworded(" ".join(sentences[at] for at in kept), draw)


KINDS: dict[str, Callable[[str, np.random.Generator], str]] = {
    "reworded": reworded,
    "reordered": reordered,
    "shortened": shortened,
}


def split(text: str) -> list[str]:
    """Sentences and lines of a text, without empty ones."""
    return [sentence for sentence in _SENTENCE.split(text) if sentence.strip()]


def _like(word: str, pattern: str) -> str:
    """A word with a capital where the one that it replaces has one."""
    return word[0].upper() + word[1:] if pattern[0].isupper() else word
