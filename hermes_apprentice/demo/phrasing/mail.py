"""What surrounds the order in a mail: headers, greetings, chatter, signatures.

The chatter is full of numbers that are not the quantity and codes that are
not the article: prices, dates, telephone numbers, old orders.
"""

from __future__ import annotations

SUBJECTS = (
    "Order", "New order", "order for {g}", "{g}", "Bestellung / order", "Material for {town}",
    "Re: your offer of {date}", "Fwd: order", "supplies", "one more order", "Re: {g} again",
    "Order from {town}",
)  # fmt: skip

GREETINGS = (
    "Hello,", "Hi there,", "Good morning,", "Dear team,", "Dear Sir or Madam,", "Hi {first},",
    "Good afternoon,", "Hey,", "Dear Ms {last},", "Hello {first},", "Moin,",
    "To whom it may concern,", "",
)  # fmt: skip

OPENERS_WITH_FIRM = (
    "this is {person} from {firm}.",
    "I am writing for {firm}.",
    "{person} here, purchasing at {firm}.",
    "{firm} would like to place an order.",
    "on behalf of {firm} I am sending you our order.",
    "my name is {person}, I work for {firm}.",
    "we at {firm} have another order for you.",
    "{person}, {firm}, we spoke on the phone.",
    "please see below the order of {firm}.",
    "you know us, {firm} in {town}.",
)

OPENERS = (
    "hope you are well.",
    "thanks for the quick reply.",
    "it is me again.",
    "thank you for the catalogue.",
    "thanks for the call {weekday}.",
    "short mail from the workshop today.",
    "I hope the holidays were good.",
    "sorry for the late mail.",
    "hope this finds you well.",
    "",
    "",
    "",
)

CHATTER = (
    "The last invoice over {price} has been paid.",
    "Order {old} arrived on {date}, all fine.",
    "You can reach me at {phone}.",
    "Our opening hours are {hour} to {hour2}.",
    "By the way, invoice {inv} is still missing here.",
    "The price of {price} you gave us in {month} still holds, I hope.",
    "We moved to {street} {house} last year.",
    "There are {n1} of us in the office now, it is getting tight.",
    "Please ring {phone} before you come.",
    "Last year's order {old} had a scratched box, please pack well.",
    "The site is at {street} {house}, {town}.",
    "We have been customers since {year}.",
    "Your colleague offered us {percent} % discount.",
    "My colleague {first} is away until {date}.",
    "Delivery note {inv} from {month} can be closed.",
    "The fair in {town} was great, see you at stand {house} next year.",
    "Budget for this is {price}, in case it gets more expensive call me.",
    "Please note our new tax number {vat}.",
    "Unload at gate {n1}, the ramp is blocked.",
    "I still have your offer of {date} here.",
    "The old {g} from order {old} are working well.",
    "We tried {othersku} before and did not like it.",
    "This replaces the {othersku} we used to buy.",
    "Not {othersku} again please, that was the wrong one.",
    "Regards also from {first}, who is on leave.",
    "Payment within {days} days as agreed.",
    "Our customer number with you is {cust}.",
    "Greetings to {first} in accounts.",
    "We had {n1} complaints last year, but not about your goods.",
    "The lorry can be up to {n1} tonnes here.",
)

QUESTIONS = (
    "Please confirm.", "Can you confirm by mail?", "Let me know if anything is unclear.",
    "Thanks in advance!", "Please send the confirmation to {email}.", "Thank you.",
    "Is everything in stock?", "", "", "",
)  # fmt: skip

CLOSINGS = (
    "Best regards", "Kind regards,", "Regards", "Cheers,", "Thanks,", "Many thanks and best wishes",
    "Yours sincerely,", "BR", "Have a nice day", "All the best,", "Mit freundlichen Gruessen",
    "Thanks and bye",
)  # fmt: skip

ROLES = (
    "Purchasing", "Procurement", "Workshop manager", "Office", "Site manager", "Owner", "Buyer",
    "Stores",
)  # fmt: skip

QUOTED = (
    "> On {date} you wrote:\n> Thank you for order {old}, it left our house today.",
    "> From: sales desk\n> Dear {first}, please find our offer, total {price}.",
    "-----Original message-----\nYour parcel with {n1} boxes was handed over on {date}.",
    "> Am {date} schrieb {first}:\n> your invoice {inv} over {price} is attached",
    "> {first} wrote:\n> call me at {phone} if you need anything else.",
)

MISSPELLED = {
    "please": "pleas", "order": "oder", "delivery": "delivry", "thanks": "thnaks",
    "regards": "regrads", "number": "nubmer", "article": "artcle", "would": "woud",
    "confirm": "confrim", "customer": "custumer", "because": "becuase", "morning": "mornig",
    "invoice": "invioce", "quantity": "quantitiy", "again": "agian", "with": "wiht",
    "your": "yuor", "supply": "suply",
}  # fmt: skip
