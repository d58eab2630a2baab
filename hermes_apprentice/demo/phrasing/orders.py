"""How people ask for an order to be read, and how they word the order itself.

In the order lines ``{q}`` is the quantity (``{Q}`` where it opens a sentence),
``{u}`` a unit, ``{s}`` the article number and ``{g}`` what the article is.
"""

from __future__ import annotations

INSTRUCTIONS_BEFORE = (
    "Extract the order as JSON with customer, sku, quantity, delivery (standard, express or "
    "pickup) and reference (null if there is none):",
    "Read this order e-mail and answer only with JSON, keys customer, sku, quantity, delivery, "
    "reference. Delivery is standard, express or pickup; reference may be null.",
    "What did they order? Give me the JSON: customer, sku, quantity, delivery "
    "(standard/express/pickup), reference or null.",
    "Turn the mail below into our order JSON (customer, sku, quantity, delivery, reference). "
    "No comments, just the object. delivery: standard | express | pickup",
    "New order came in. Fill in customer, sku, quantity, delivery and reference as JSON, please. "
    "Delivery must be standard, express or pickup.",
    "Order mail to JSON. Fields: customer, sku, quantity, delivery (standard, express, pickup), "
    "reference (null when missing).",
    "Please pull the order details out of this message and return them as one JSON object with "
    "customer, sku, quantity, delivery and reference.",
    "Parse the following purchase order e-mail. Output JSON: customer, sku, quantity, "
    "delivery = standard, express or pickup, reference = their PO or null.",
    "Can you convert this customer order into JSON for the ERP? customer / sku / quantity / "
    "delivery / reference, nothing else.",
    "I need the order data from this e-mail as JSON (customer, sku, quantity, delivery, "
    "reference):",
    "Here is an order from the inbox; give back the JSON record with customer, sku, quantity, "
    "delivery (standard, express or pickup) and reference.",
    "Get customer, sku, quantity, delivery and reference from the order below, in JSON.",
)

INSTRUCTIONS_AFTER = (
    "Extract this order as JSON: customer, sku, quantity, delivery (standard, express or pickup), "
    "reference or null.",
    "Turn the order above into JSON with the keys customer, sku, quantity, delivery, reference.",
    "What is being ordered here? JSON only, please: customer, sku, quantity, delivery "
    "(standard/express/pickup), reference.",
    "Give me the order JSON for this mail (customer, sku, quantity, delivery, reference).",
)

FENCES = (
    "\n\n",
    "\n\n---\n",
    "\n\n'''\n",
    "\n\nE-mail:\n",
    "\n\nMail follows.\n\n",
    "\n",
)

PROSE = (
    "Please send us {q} {u} of {s}.",
    "We would like to order {q} {u} of the {g} {s}.",
    "Could you put {q} of {s} on the next shipment?",
    "I'd like {q} of your {g}, article {s}.",
    "We need {q} more {g} ({s}).",
    "Kindly book {q} {u} of item {s} for us.",
    "We are running low on {g}; please supply {q} {u} of {s}.",
    "Our stock of {s} is down, so we will take {q} {u} this time.",
    "This time we need {s}, {q} {u} in total.",
    "As discussed with your sales desk, {q} {u} of {s} please.",
    "May I order {q} of the {s} {g}?",
    "Hereby we order {q} {u} {s}.",
    "It is about the {g} again, number {s}, and we want {q} of them.",
    "For the new site we want {q} {u} of article {s}.",
    "Can you do {q} {u} of {s} for us?",
    "The {g} we want are {s}. {Q} should be enough.",
    "Let us have {q} {s} {g}.",
    "Please enter an order over {q} {u}, article number {s}.",
    "We'd take {q} of those {g} you list as {s}.",
    "From your catalogue: {s}. We want {q} {u}.",
    "Our fitter asked for {q} {u} of {s}, so please go ahead with that.",
    "Please prepare {q} {u} of the {g} with number {s}.",
    "The workshop is asking for {s} again. {Q} {u} will do.",
    "We have decided on {s} for the {g}; please ship {q}.",
    "After the tests we are happy with {s}, so {q} {u} of it please.",
    "Just {q} of {s} this month, thanks.",
    "Would you reserve {q} {u} of {s} and send them on?",
    "I am to order {q} {g} for the hall, your number {s}.",
    "Same {g} as always ({s}), but {q} {u} now.",
    "Please deliver article {s} to us, amount {q} {u}.",
    "Need {q} {s}, please confirm.",
    "We confirm our order for {q} {u} of {s}.",
)

FORMS = (
    "{q}x {s}",
    "{s} x {q}",
    "{q} x {s} ({g})",
    "Order: {s}, qty: {q}",
    "Item {s} / quantity {q} / {g}",
    "- {s}: {q} {u}",
    "* {q} {u} {s}",
    "Article no.: {s}\nQuantity: {q} {u}",
    "Article: {g}\nNo.: {s}\nAmount: {q}",
    "SKU | description | qty\n{s} | {g} | {q}",
    "SKU | qty\n{s} | {q}",
    "qty {q}, part {s}",
    "Part number {s}\nDescription {g}\nQty {q}",
    "{g}: {s} - {q} {u}",
)

FORM_LEADS = (
    "Our order:",
    "Please book the following:",
    "We need this:",
    "Order as follows",
    "Here is what we need:",
    "Please supply:",
    "For this week:",
)

EXPRESS = (
    "This is urgent, the line is standing still.",
    "Very urgent: our customer is waiting on site.",
    "Please treat this as urgent.",
    "Urgent! Please send it by courier.",
    "Please use the overnight courier.",
    "It is urgent, so express if you can.",
    "By courier please, it has to be here tomorrow.",
    "Send it by courier, whatever it costs.",
    "Sorry to press, but this one is urgent.",
    "An overnight courier would save us.",
)

PICKUP = (
    "We will collect it ourselves.",
    "Our driver will collect it at your gate.",
    "No shipping needed, we collect.",
    "We collect at your warehouse on {weekday}.",
    "Please do not ship it, our van will pick it up.",
    "I will come and collect it myself.",
    "Our driver will pick it up.",
    "We will pick it up at your depot, as always.",
    "Keep it at the counter, I collect it on {weekday}.",
    "Somebody from here will pick it up.",
)

STANDARD = (
    "Normal freight is fine.",
    "No rush, the usual carrier will do.",
    "Send it the usual way.",
    "No rush, ship it with the regular tour.",
    "Normal delivery is good enough.",
    "There is no rush with this one.",
    "Please use the regular freight forwarder.",
    "The normal route is fine for us.",
    "Ship it by the usual freight.",
    "Regular post is fine.",
)

REFERENCE = (
    "Our reference is {r}.",
    "PO number: {r}",
    "Please quote {r} on the delivery note.",
    "Purchase order {r}.",
    "Our PO for this is {r}.",
    "Ref.: {r}",
    "Put {r} on the invoice as our order reference.",
    "Your ref for us: {r}.",
    "Internal reference {r}, please mention it.",
    "The order runs under {r} on our side.",
    "Use PO {r} for this.",
    "Mark the box with our reference {r}.",
)
