"""How people ask for a ticket to be labelled, and what every ticket may begin and end with.

Nothing in here hints at a label: the same openings and endings serve all of them.
"""

from __future__ import annotations

_LABELS = "billing, bug, outage, feature-request, account-access, shipping, praise"

INSTRUCTIONS_BEFORE = (
    f"Label this support ticket with exactly one of: {_LABELS}.",
    f"Which label fits this ticket? Choose one of {_LABELS}. Answer with the label only.",
    f"Classify the support ticket below ({_LABELS}). One label, no explanation.",
    f"Ticket triage: answer with a single label from this list: {_LABELS}.",
    f"Please sort this customer ticket into one of our queues: {_LABELS}. Just the label.",
    f"Support ticket to be labelled. Allowed labels: {_LABELS}.",
    f"Give me the label for this ticket. Options: {_LABELS}",
    f"Pick the right label for the following support request, one of {_LABELS}:",
    f"Assign a label to the ticket: {_LABELS}. Reply with nothing but the label.",
    f"What kind of ticket is this? One word from: {_LABELS}.",
    f"Tag the ticket below. Tags: {_LABELS}. Only one tag.",
    f"Help me triage. Possible labels are {_LABELS}. Label of this ticket?",
)

INSTRUCTIONS_AFTER = (
    f"Label the support ticket above with one of: {_LABELS}.",
    f"Which of these labels does this ticket get: {_LABELS}? Only the label please.",
    f"Triage this ticket ({_LABELS}), one label only.",
)

FENCES = ("\n\n", "\n\nTicket:\n", "\n\n---\n", "\n", "\n\nCustomer wrote:\n")

OPENINGS = (
    "Hi,", "Hello team,", "Hello,", "Good morning.", "Hi support,", "Hey there,", "Dear support,",
    "Hi, {first} here.", "Hello from {town}.", "Good evening,", "", "", "", "",
)  # fmt: skip

ENDINGS = (
    "Thanks, {first}", "Regards, {first}", "Please let me know.", "Thank you!", "{first}, {firm}",
    "Best, {first}", "Looking forward to your answer.", "Ticket raised by {first} {last}.",
    "Cheers", "Our account is {firm}.", "", "", "", "", "",
)  # fmt: skip

AREAS = (
    "stock list", "supplier page", "label designer", "dashboard", "mobile app", "scanner app",
    "import page", "report page", "warehouse map", "order overview", "team page", "search box",
)  # fmt: skip

DEVICES = (
    "hand scanner", "label printer", "charging dock", "ring scanner", "rugged tablet",
    "receipt roll", "spare battery", "wall mount",
)  # fmt: skip

PEOPLE = (
    "our new colleague", "a trainee", "my deputy", "the night shift", "our accountant",
    "a contractor", "the warehouse lead", "my boss",
)  # fmt: skip

BROWSERS = ("Firefox", "Chrome", "Safari", "Edge", "the Android app", "the iPad app")

PLANS = ("Starter", "Team", "Business", "Depot", "Plus", "Pro")
