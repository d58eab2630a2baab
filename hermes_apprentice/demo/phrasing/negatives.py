"""Requests that sound like the two tasks and are not.

They are about orders and tickets, some even carry a whole order mail or a
whole ticket, but what is asked for is something else. ``{mail}`` and
``{ticket}`` are filled with real ones.
"""

from __future__ import annotations

ABOUT_ORDERS = (
    (
        "How do I write a polite reply to a customer who ordered the wrong SKU?",
        "Thank them, name the article they ordered and the one that fits, and offer "
        "the exchange in one sentence.",
    ),
    ("What does SKU stand for?", "Stock keeping unit: the number under which an article is kept."),
    (
        "Can we cancel an order after it was packed?",
        "Yes, as long as the carrier has not scanned it; tell the warehouse at once.",
    ),
    (
        "Draft a friendly reminder that the express surcharge has gone up.",
        "Dear customers, from next month express costs a little more; standard "
        "delivery stays as it is.",
    ),
    (
        "Which JSON library would you use to store orders in Python?",
        "The standard json module is enough; orjson if it must be fast.",
    ),
    (
        "Make a checklist for entering orders by hand.",
        "Customer, article, amount, delivery, reference, and a second pair of eyes.",
    ),
    (
        "Why do customers prefer pickup over delivery?",
        "They save the freight, get it the same day and can look at the goods.",
    ),
    (
        "Write an SQL query that counts orders per customer.",
        "SELECT customer, COUNT(*) FROM orders GROUP BY customer ORDER BY 2 DESC;",
    ),
    (
        "How should an article number be built so that typos are noticed?",
        "Add a check digit and leave out letters that look like digits.",
    ),
    (
        "What is a reasonable minimum order quantity for screws?",
        "For screws, one carton; below that the handling costs more than the goods.",
    ),
    (
        "Explain purchase order numbers to an intern.",
        "It is the buyer's own number for a purchase, so that the invoice finds its way.",
    ),
    ("Suggest a subject line for our order confirmation mails.", "Your order is in good hands."),
    (
        "Should delivery dates be in the order JSON schema?",
        "Yes, as an optional ISO date, because half of the customers name one.",
    ),
    (
        "How many orders did we probably get if each mail has one and there are 48 mails?",
        "Then it is 48, unless someone wrote twice.",
    ),
)

WITH_MAIL = (
    (
        "Summarise this order e-mail in one sentence:\n\n{mail}",
        "A regular customer orders one article and says how it should be sent.",
    ),
    (
        "Write a friendly confirmation to the sender of this mail:\n\n{mail}",
        "Thank you for your order, it has been entered and leaves our house as you asked.",
    ),
    (
        "Translate this mail into French, please.\n\n{mail}",
        "Bonjour, nous souhaitons passer la commande ci-dessous. Merci de votre confirmation.",
    ),
    (
        "Is the tone of the following mail rude?\n\n{mail}",
        "No, it is brief and matter-of-fact, nothing more.",
    ),
    (
        "{mail}\n\nWhich phone number should I call about this?",
        "Call the number in the signature; if there is none, answer by mail.",
    ),
    (
        "Correct the spelling in this mail and leave the rest as it is:\n\n{mail}",
        "I corrected the spelling; the content was left as it is.",
    ),
)

ABOUT_TICKETS = (
    (
        "Which labels do we use for tickets?",
        "Billing, bug, outage, feature-request, account-access, shipping and praise.",
    ),
    (
        "How do I answer an angry support ticket?",
        "Name the problem, say what happens next and when, and leave out excuses.",
    ),
    (
        "What is a good first response time for support?",
        "Under an hour on working days is good; under four is normal.",
    ),
    (
        "Should a bug and an outage have separate queues?",
        "Yes: an outage needs somebody now, a bug needs somebody who can reproduce it.",
    ),
    (
        "Draft a canned reply for password problems.",
        "Please use the reset link; if no mail arrives within ten minutes, write to us again.",
    ),
    (
        "Give me five subject lines for a status update about downtime.",
        "We are on it. Back soon. What happened. Where we are. All clear.",
    ),
    (
        "How can I measure whether ticket labels are reliable?",
        "Let two people label the same hundred and compare; kappa above 0.8 is fine.",
    ),
    (
        "Write a thank-you note to a customer who praised us.",
        "Your kind words went straight to the team, thank you.",
    ),
    (
        "Who should own feature requests in a small company?",
        "One person with a calendar, so that every wish gets an answer.",
    ),
    (
        "Explain the difference between a ticket and an incident.",
        "A ticket is one person's report, an incident is what stands behind many.",
    ),
    (
        "How do I route refund questions to accounting automatically?",
        "Use a rule on the label and let accounting correct it for a week.",
    ),
    (
        "What is a polite way to close a ticket without an answer from the customer?",
        "We have not heard from you, so I close this; just reply and it opens again.",
    ),
)

WITH_TICKET = (
    (
        "Write a reply to this ticket:\n\n{ticket}",
        "Thank you for writing. I have passed it to the right colleagues and will "
        "report back today.",
    ),
    (
        "How urgent is this, from 1 to 5?\n\n{ticket}",
        "I would say 3: it should be answered today, but nobody has to be woken.",
    ),
    ("Summarise the ticket in six words.\n\n{ticket}", "Customer reports a matter, wants answer."),
    (
        "{ticket}\n\nTranslate that into German for my colleague.",
        "Guten Tag, bitte sehen Sie sich die Angelegenheit an und melden Sie sich bei uns.",
    ),
    (
        "Is there any personal data in this text?\n\n{ticket}",
        "At most a first name; nothing that I would have to remove.",
    ),
)
