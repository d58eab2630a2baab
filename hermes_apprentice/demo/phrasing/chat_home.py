"""Small talk about home, travel, food and free time: question, answer, and what fills ``{x}``."""

from __future__ import annotations

HOME = (
    (
        "How long do I boil {x} eggs?",
        "Put the {x} eggs into boiling water: six minutes for a soft yolk, nine for a firm one.",
        ("four", "duck", "quail", "very fresh"),
    ),
    (
        "My {x} keeps dripping, what can I try before calling a plumber?",
        "Turn off the water, open the {x} and replace the rubber washer; a worn "
        "washer is the usual reason.",
        ("kitchen tap", "garden hose", "shower head", "boiler valve"),
    ),
    (
        "Suggest a {x} dinner that takes twenty minutes.",
        "A {x} idea: fried rice with peas, spring onion and whatever is left in the fridge.",
        ("vegan", "kid-friendly", "gluten-free", "low-salt"),
    ),
    (
        "Which plants survive on a {x} balcony?",
        "For a {x} balcony try geraniums, lavender or ivy; water in the morning and "
        "use large pots.",
        ("windy", "north-facing", "very sunny", "tiny"),
    ),
    (
        "What do I pack for three days in {x}?",
        "For {x}: layers, one good pair of shoes, a rain jacket and a charger. Less "
        "than you think.",
        ("Lisbon", "the Tatra mountains", "Bergen", "Marrakesh"),
    ),
    (
        "How do I get {x} out of a wool jumper?",
        "Dab the {x} with cold water and a drop of wool detergent, then dry it flat. Never rub.",
        ("red wine", "candle wax", "ink", "beetroot"),
    ),
    (
        "Explain the offside rule to a {x}.",
        "To a {x} I would say: you may not wait behind the last defender for the ball.",
        ("seven-year-old", "chess player", "basketball fan"),
    ),
    (
        "Name three films like {x}.",
        "If you liked {x}, try a slow thriller, a heist comedy and a quiet family drama.",
        ("a cosy mystery", "a space western", "a silent comedy"),
    ),
    (
        "How often should I water a {x}?",
        "Let the soil of a {x} dry on top first; in summer that is about once a week.",
        ("cactus", "ficus", "bonsai maple", "peace lily"),
    ),
    (
        "My {x} will not sleep through the night. Any gentle ideas?",
        "Keep the evening calm and always the same for the {x}; change one thing at a time.",
        ("toddler", "puppy", "newborn twin"),
    ),
    (
        "What is a good stretch after {x}?",
        "After {x}, hold a slow hamstring stretch for thirty seconds on each side.",
        ("a long bike ride", "gardening all day", "rowing", "a night shift"),
    ),
    (
        "Write a two-line birthday wish for {x}.",
        "Another lap around the sun, and you still set the pace. Happy birthday to {x}!",
        ("my aunt", "a beekeeper", "my climbing partner", "the postman"),
    ),
    (
        "Is it safe to run at {x} degrees below zero?",
        "At minus {x} you can run if you cover your face, go slower and stay dry.",
        ("five", "twelve", "eighteen"),
    ),
    (
        "How do I teach a {x} to come when called?",
        "Start indoors, reward every single time, and never call the {x} for something unpleasant.",
        ("beagle", "rescue cat", "stubborn terrier"),
    ),
    (
        "What wine goes with {x}?",
        "With {x} I would open something light and dry; serve it slightly cool.",
        ("mushroom risotto", "grilled mackerel", "blue cheese", "lentil stew"),
    ),
    (
        "My sourdough is {x}. What went wrong?",
        "If it is {x}, the dough probably needed another hour of rising and a hotter oven.",
        ("flat", "gummy inside", "too sour", "full of tunnels"),
    ),
    (
        "Plan a rainy afternoon with {x}.",
        "With {x}: build a fort, bake something simple, and read aloud until the rain stops.",
        ("two nephews", "my grandmother", "a bored teenager"),
    ),
    (
        "How do I descale a {x}?",
        "Run citric acid and water through the {x}, wait half an hour, then rinse twice.",
        ("kettle", "coffee machine", "steam iron"),
    ),
    (
        "What should I know before adopting a {x}?",
        "A {x} needs time, space and a vet nearby; visit twice before you decide.",
        ("parrot", "greyhound", "pair of guinea pigs", "hedgehog"),
    ),
    (
        "Give me a limerick about {x}.",
        "There once was a thing known as {x}, whose fame made the neighbours perplexed.",
        ("a lazy lighthouse", "burnt toast", "a polite goose"),
    ),
    (
        "How do I remove a stripped {x}?",
        "Press a rubber band between driver and {x}; if that fails, drill the head off.",
        ("screw", "hex bolt", "hinge pin"),
    ),
    (
        "What is the best season to visit {x}?",
        "Go to {x} in late spring: mild days, fewer people, lower prices.",
        ("Kyoto", "Patagonia", "Crete", "the Baltic coast"),
    ),
    (
        "Which board game would you buy for {x}?",
        "For {x} take a cooperative game that ends within an hour.",
        ("six adults", "a couple", "my chess club", "grandparents"),
    ),
    (
        "How do I make {x} less spicy?",
        "Add fat or something sweet to the {x}: yoghurt, coconut milk or a little honey.",
        ("a curry", "kimchi soup", "my chilli"),
    ),
    (
        "My knee clicks when I {x}. Should I worry?",
        "Clicking without pain when you {x} is mostly harmless; with swelling see a doctor.",
        ("climb stairs", "squat", "cycle uphill"),
    ),
    (
        "Can I freeze {x}?",
        "Yes, {x} freezes well for about three months if you keep out the air.",
        ("hummus", "cooked lentils", "goat cheese", "pancake batter"),
    ),
    (
        "What is the etiquette for tipping in {x}?",
        "In {x} rounding up is polite; nobody expects a fifth on top.",
        ("Vienna", "Seoul", "Reykjavik"),
    ),
    (
        "How do I silence a squeaky {x}?",
        "Clean the {x}, then use a little graphite or wax; oil only collects dust.",
        ("floorboard", "office chair", "bicycle brake", "gate"),
    ),
    (
        "Recommend a podcast topic about {x}.",
        "How about the people who repair {x} for a living?",
        ("old maps", "bridges", "deep-sea cables", "typefaces"),
    ),
    (
        "What can I do with leftover {x}?",
        "Turn leftover {x} into fritters: one egg, some flour, a hot pan.",
        ("mashed potatoes", "rice", "roast pumpkin", "polenta"),
    ),
    (
        "How do I fold a {x}?",
        "Lay the {x} flat, bring the long sides to the middle, then fold in thirds.",
        ("fitted sheet", "paper crane", "road map", "suit jacket"),
    ),
    (
        "My neighbour plays {x} at midnight. How do I bring it up kindly?",
        "Say first what you like about living there, then ask whether the {x} could stop at ten.",
        ("the drums", "techno", "the tuba"),
    ),
    (
        "How high should a {x} hang?",
        "Centre the {x} at about a hundred and fifty centimetres from the floor.",
        ("mirror", "row of photographs", "kitchen cupboard"),
    ),
    (
        "What would a beginner's week of {x} look like?",
        "Three short sessions of {x}, a rest day between them, and no heroics.",
        ("swimming", "yoga", "bouldering", "rope skipping"),
    ),
    (
        "I have {x} minutes before the train. What can I see?",
        "In {x} minutes: walk to the river and back, with a coffee on the way.",
        ("forty", "ninety"),
    ),
    (
        "Which paint do I use on a {x}?",
        "Sand the {x}, prime it, then take an acrylic enamel in two thin coats.",
        ("radiator", "garden bench", "tiled wall", "metal fence"),
    ),
    (
        "How do bees find {x}?",
        "Bees find {x} by scent and by the dance of other foragers.",
        ("clover", "a new home", "their way back"),
    ),
    (
        "What is a good name for a {x}?",
        "For a {x} I like Biscuit, Moss or Captain.",
        ("sailing dinghy", "black hen", "campervan", "goldfish"),
    ),
    (
        "How do I calm down before {x}?",
        "Before {x}, breathe out longer than you breathe in, ten times, and drop your shoulders.",
        ("a driving test", "the dentist", "a wedding speech"),
    ),
    (
        "Tell me a fun fact about {x}.",
        "A fun fact about {x}: they are older than trees, at least as a family.",
        ("sharks", "ferns", "horseshoe crabs"),
    ),
)
