"""Small talk about code, numbers, language and the world: question, answer, what fills ``{x}``."""

from __future__ import annotations

WORK = (
    (
        "What does the {x} flag of tar do?",
        "The {x} flag decides how the archive is read or written; see the short list "
        "in its manual page.",
        ("z", "j", "k", "P"),
    ),
    (
        "Write a {x} one-liner that counts lines.",
        "In {x}, read the input once and print the number of newline characters.",
        ("Perl", "awk", "Ruby", "PowerShell"),
    ),
    (
        "Why is my {x} build slow on the first run?",
        "A first {x} build fills the cache; the second shows the real speed.",
        ("Rust", "Docker", "Gradle", "CMake"),
    ),
    (
        "Explain {x} as if I were a carpenter.",
        "For a carpenter: {x} is a jig, made once so that every later cut is the same.",
        ("recursion", "a hash table", "TLS", "dependency injection"),
    ),
    (
        "When did the {x} begin?",
        "Historians argue, but the {x} is usually dated by its first lasting institution.",
        ("Hanseatic League", "Bronze Age", "Meiji era", "Reformation"),
    ),
    (
        "Translate 'the early bird' into {x}.",
        "In {x} the saying has another animal, but the idea is the same: start early.",
        ("Finnish", "Portuguese", "Welsh", "Swahili"),
    ),
    (
        "What is the derivative of {x}?",
        "Apply the chain rule to {x} and simplify; check it by drawing the slope.",
        ("x to the x", "sin of x squared", "the logarithm of cosine x"),
    ),
    (
        "How does a {x} work?",
        "A {x} turns one kind of motion into another; the rest is housekeeping.",
        ("sewing machine", "Stirling engine", "differential gear", "pendulum clock"),
    ),
    (
        "Give me a synonym for '{x}' that sounds less stiff.",
        "Instead of '{x}' try a short verb: use, start, help or show.",
        ("utilise", "commence", "facilitate", "endeavour"),
    ),
    (
        "Who painted {x}?",
        "Ask a museum guide about {x}: the attribution has changed more than once.",
        ("the girl with the turban", "the night cafe", "the garden of delights"),
    ),
    (
        "Can I mount a {x} drive without root?",
        "With FUSE you can mount a {x} drive as a normal user.",
        ("network", "exFAT", "WebDAV", "squashfs"),
    ),
    (
        "What is a sensible backup plan for {x}?",
        "For {x}: three copies, two kinds of media, one of them elsewhere, and a restore test.",
        ("a photo archive", "a small choir", "my thesis", "a home server"),
    ),
    (
        "How do I say no to {x} politely?",
        "To {x} say: thank you for thinking of me, I cannot take it on now.",
        ("another committee", "unpaid overtime", "a pushy recruiter"),
    ),
    (
        "Why does {x} have leap seconds?",
        "The earth is an uneven clock, so {x} was corrected now and then.",
        ("civil time", "UTC"),
    ),
    (
        "Is {x} a good first instrument?",
        "Yes, {x} is kind to beginners if you practise ten minutes every day.",
        ("the ukulele", "the cello", "the trumpet", "the harp"),
    ),
    (
        "Compare {x} in three sentences.",
        "Comparing {x}: one is simpler, one is faster, and habit decides in the end.",
        ("tea and coffee", "vim and emacs", "trains and planes", "oak and ash wood"),
    ),
    (
        "What is the capital of {x}, and how big is it?",
        "The capital of {x} is smaller than most people guess.",
        ("Bhutan", "Suriname", "Slovenia", "Eritrea"),
    ),
    (
        "Draft a toast for {x}.",
        "Raise your glasses to {x}: may the roof hold and the neighbours be deaf.",
        ("a house-warming", "a retirement", "a silver wedding"),
    ),
    (
        "How many {x} fit into a bathtub?",
        "A rough estimate for {x}: take the volume of the tub and two thirds packing.",
        ("tennis balls", "oranges", "golf balls", "croissants"),
    ),
    (
        "Which regex matches {x}?",
        "For {x}, anchor both ends and keep the classes explicit; test with odd input.",
        ("a Roman numeral", "an ISO week", "a hex colour", "a time of day"),
    ),
    (
        "What does {x} mean in music?",
        "In music {x} is about touch and speed, not loudness alone.",
        ("legato", "rubato", "sotto voce", "sforzando"),
    ),
    (
        "How do I cite {x} in an essay?",
        "Cite {x} with author, year, title and where you saw it, in this order.",
        ("a podcast", "a tombstone", "a map", "a radio play"),
    ),
    (
        "Why do {x} change colour?",
        "In {x} one pigment fades and shows another that was there before.",
        ("leaves", "flamingos", "cuttlefish", "copper roofs"),
    ),
    (
        "Help me structure a talk about {x}.",
        "A talk about {x}: one question, three findings, one thing to take home.",
        ("soil health", "tide mills", "night trains", "password habits"),
    ),
    (
        "What is the difference between {x}?",
        "Between {x} the difference lies in who decides and when.",
        ("a treaty and a pact", "fog and mist", "a fjord and a bay", "jam and jelly"),
    ),
    (
        "Should I use {x} for a hobby project?",
        "For a hobby project {x} is fine if you enjoy it; fun decides.",
        ("Haskell", "a graph database", "Kubernetes", "plain PHP"),
    ),
    (
        "What happens to {x} at high altitude?",
        "Up there the lower pressure changes {x} more than the cold does.",
        ("bread dough", "ballpoint pens", "helium balloons"),
    ),
    (
        "How was {x} measured in the past?",
        "People measured {x} with ropes, shadows and a lot of patience.",
        ("latitude", "land", "the height of a tower"),
    ),
    (
        "Give me three interview questions for a {x}.",
        "For a {x}: a mistake you made, something you taught, and why here.",
        ("pastry chef", "lighthouse keeper", "tram driver", "librarian"),
    ),
    (
        "Sketch a study plan for {x}.",
        "For {x}: twenty minutes daily, one mock test a week, and sleep.",
        ("the amateur radio licence", "a sailing exam", "basic Latin", "first aid"),
    ),
    (
        "What keeps {x} in orbit?",
        "Sideways speed keeps {x} in orbit: it falls and keeps missing.",
        ("a satellite", "the moon", "Saturn's rings"),
    ),
    (
        "How can I read {x} faster?",
        "Skim the headings of {x} first, decide what you need, then read that slowly.",
        ("academic papers", "contracts", "Russian novels"),
    ),
    (
        "What was life like in {x}?",
        "In {x} the day followed the light, and bread was most of the diet.",
        ("a medieval port", "a mining camp", "an eighteenth-century village"),
    ),
    (
        "Pick a colour palette for {x}.",
        "For {x}: slate, warm white and a single accent of rust.",
        ("a jazz poster", "a yoga studio", "a chess site", "a bakery logo"),
    ),
    (
        "How loud is {x}?",
        "Close by, {x} is about as loud as a busy street.",
        ("a blue whale", "an espresso machine", "a thunderclap"),
    ),
    (
        "What should a readme of {x} contain?",
        "For {x}: what it is, how to start, one example, and whom to ask.",
        ("a data set", "a game engine", "a keyboard firmware"),
    ),
    (
        "Convert {x} for me.",
        "{x}: multiply by the factor in the table and round at the end only.",
        ("three furlongs to metres", "40 psi to bar", "a stone to kilograms"),
    ),
    (
        "Which tyres do I need for {x}?",
        "For {x} take the narrower tyre with a soft compound.",
        ("icy roads", "gravel touring", "a trailer"),
    ),
    (
        "What is a fair way to split {x}?",
        "One divides {x}, the other chooses; with more people, bid.",
        ("rent", "a pizza", "holiday chores"),
    ),
    (
        "How do I explain {x} to my mother?",
        "Tell your mother that {x} is like a letter that nobody else can open.",
        ("end-to-end encryption", "a blockchain", "cookies"),
    ),
    (
        "What did people eat on {x}?",
        "On {x} it was biscuit, salt meat, peas and, with luck, fish.",
        ("whaling ships", "polar expeditions", "the Silk Road"),
    ),
    (
        "Which stretch of {x} is best for beginners?",
        "Beginners enjoy the lower part of {x}: wide, slow and close to a village.",
        ("the Danube cycle path", "the Appalachian Trail", "the Loire"),
    ),
    (
        "How does {x} keep warm in winter?",
        "For {x} it is mostly fat, trapped air and staying still.",
        ("an emperor penguin", "a wren", "a musk ox"),
    ),
    (
        "What is the plural of {x}?",
        "Both forms of {x} are in use; pick one and keep it.",
        ("octopus", "cactus", "syllabus", "index"),
    ),
    (
        "Why is {x} sometimes salty?",
        "In {x} minerals gather because water leaves as vapour only.",
        ("a lake", "groundwater", "sweat"),
    ),
)
