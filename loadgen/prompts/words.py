"""The words that made-up prompts consist of."""

from itertools import product
from typing import Final

_SYLLABLES: Final = tuple("".join(pair) for pair in product("bdfghjklmnprstvz", "aeiou"))

MADE_UP_WORDS: Final = tuple("".join(pair) for pair in product(_SYLLABLES, repeat=2))[:4094]
"""Words like 'bada' and 'foma': all in the vocabulary of the tiny model, each of them one token of it.

They must be in it: words that it does not know are one and the same token, so that all prompts would begin alike and
the engine's prefix cache would save most of the work that the test is about.
"""

_COMMON_TEXT: Final = (
    "about above after again air all also always animal answer any around ask back be because before began below "
    "between big book both boy but by call came can car carry change children city close cold come could country cut "
    "day did different do does done door down draw each earth eat end enough even every example eye face fall family "
    "far father feet few field find fire first fish five follow food form found four from gave get girl give go gold "
    "good got great green ground group grow had half hand hard has have head hear help her here high him his home "
    "horse hour house how idea if important in into is island it just keep kind king know land large last late learn "
    "leave left letter life light like line list little live long look low made make man many map mark may me mean "
    "men might mile money moon more morning most mother mountain move much music must my name near need never new "
    "next night no north not note notice now number of off often old on once one only open or order other our out "
    "over own page paper part pass people place plan plant play point power problem product pull put question quick "
    "rain ran read real red rest right river road rock room round rule run said same saw say school sea second see "
    "seem self sentence set she ship short should show side since sing sit six size sleep slow small snow so some "
    "song soon sound south space spell stand star start state stay step still stop story street strong study such sun "
    "sure table take talk tell ten than that the their them then there these they thing think this those three "
    "through time to together told too took top toward town travel tree true try turn two under unit until up us use "
    "very voice wait walk want war warm was watch water way we week well went were west what wheel when where which "
    "while white who whole why will wind with wood word work world would write year yes you young your "
)
COMMON_WORDS: Final = tuple(_COMMON_TEXT.split())
"""Words that most tokenizers trained on English know as one token each."""
