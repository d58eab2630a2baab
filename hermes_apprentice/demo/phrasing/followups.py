"""Follow-ups to an earlier answer, and requests that need a tool.

In the follow-ups ``{question}`` and ``{short}`` are the first request and the
first sentence of its answer; ``{label}`` and ``{sku}`` belong to a ticket or an order.
"""

from __future__ import annotations

FOLLOW_UPS = (
    ("Shorter, please.", "In short: {short}"),
    ("And the same in Spanish?", "En resumen: gracias, y avise si falta algo."),
    ("Why is that?", "Because the simple reason is usually the right one here."),
    (
        "Can you give me an example?",
        "For example the way a friend of yours would do it on a Sunday.",
    ),
    (
        "No, I meant the other one.",
        "Ah, the other one: there it works just the same, only slower.",
    ),
    ("Thanks. What would you do first?", "I would begin with the step that is easiest to undo."),
    ("Put that into a table.", "| what | how |\n|---|---|\n| first | as said |"),
    ("Is there a cheaper way?", "Yes: borrow it once and see whether you need it at all."),
    ("Make it sound more formal.", "More formally: kindly note the recommendation above."),
    ("And for two people?", "For two people, double it and allow a little more time."),
    (
        "Hmm, are you sure about that?",
        "Fairly sure, but check it against a second source before you rely on it.",
    ),
    ("Ok. And what if it rains?", "Then move it indoors and keep the rest of the plan."),
    ("Please continue.", "Next, look at what is left and repeat the first step."),
    (
        "Now as a JSON object with the keys idea and effort.",
        '{{"idea":"as above","effort":"low"}}',
    ),
    ("Drop the last sentence.", "Done. {short}"),
    ("What did I ask you at the start?", "At the start you asked: {question}"),
    ("How long does that take?", "About half an hour the first time, ten minutes later on."),
    (
        "Could you check your second point again?",
        "You are right to ask: the second point holds only if nothing has changed.",
    ),
)

AFTER_ORDER = (
    ("Change the quantity to {n}.", "{changed}"),
    ("They just rang: make it {n} instead.", "{changed}"),
    ("Which article was that again?", "It was {sku}."),
    ("Write them a one-line confirmation.", "Thank you, your order of {sku} is on its way."),
)

AFTER_TICKET = (
    ("And the second-best label?", "After {label} the next best would be bug."),
    ("How sure are you about that label?", "Quite sure that it is {label}."),
    ("Draft a short reply to them.", "Thank you for your message, a colleague will be in touch."),
    ("Explain why you chose it.", "Because the matter of the ticket is {label}."),
)

LEAD_INS = ("", "Thanks. ", "Ok. ", "Good. ", "Hm. ", "Great, thanks. ", "Right. ", "I see. ")

TOOL_TASKS = (
    (
        "How much space is left on {x}?",
        "df -h {x}",
        "Filesystem  Size  Used Avail Use% Mounted on\n/dev/vda1    59G   {a}G   {b}G  {c}% {x}",
        "There are {b} GB left on {x}.",
        ("/", "/home", "/var", "/srv", "/tmp"),
    ),
    (
        "What time is it on the server in {x}?",
        "TZ={x} date",
        "Fri Nov 20 {c}:{a} {x}",
        "It is {c}:{a} there.",
        ("Europe/Oslo", "Asia/Tokyo", "America/Lima", "UTC"),
    ),
    (
        "How many lines does {x} have?",
        "wc -l {x}",
        "{a}{b} {x}",
        "{x} has {a}{b} lines.",
        ("notes.md", "report.csv", "todo.txt", "inbox.log"),
    ),
    (
        "Is the {x} service running?",
        "pgrep -fc {x}",
        "{a}",
        "Yes, {a} processes of {x} are running.",
        ("backup", "postgres", "nginx", "sync"),
    ),
    (
        "Show me the newest file in {x}.",
        "ls -t {x} | head -1",
        "export-{a}{b}.csv",
        "The newest file in {x} is export-{a}{b}.csv.",
        ("downloads", "reports", "scans", "exports"),
    ),
    (
        "Which kernel does the {x} run?",
        "uname -r",
        "6.{a}.{b}",
        "The {x} runs kernel 6.{a}.{b}.",
        ("server", "sandbox", "build machine"),
    ),
    (
        "How long has the {x} been up?",
        "uptime -p",
        "up {a} days, {b} minutes",
        "The {x} has been up for {a} days and {b} minutes.",
        ("machine", "host", "box"),
    ),
    (
        "Count the {x} files in this folder.",
        "ls *.{x} | wc -l",
        "{a}",
        "There are {a} {x} files here.",
        ("pdf", "csv", "png", "txt"),
    ),
    (
        "Look up how often '{x}' occurs in the log.",
        "grep -c {x} app.log",
        "{a}",
        "'{x}' occurs {a} times in the log.",
        ("timeout", "retry", "warning", "login"),
    ),
)
