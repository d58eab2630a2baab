"""Writes order e-mails together with the JSON that is right for them.

Every mail has one order. What is asked for can be read off the text in one
way only: the quantity stands there once, as digits or as a word, and only one
of the article numbers is wanted. Around it stand prices, dates, telephone
numbers, old orders and other article numbers.
"""

from __future__ import annotations

import json
import random
import re
import string
from dataclasses import dataclass
from typing import NamedTuple

from hermes_apprentice.demo.phrasing import mail as surroundings
from hermes_apprentice.demo.phrasing import names
from hermes_apprentice.demo.phrasing import orders as wording
from hermes_apprentice.demo.request import DemoRequest

_TENS = {20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 80: "eighty"}
_SMALL = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_SPOKEN = (*range(2, 16), 18, 20, 20, 24, 25, 30, 40, 50, 60)
_ROUND = (20, 25, 30, 40, 50, 60, 75, 80, 100, 120, 150, 200, 240, 250, 300, 400, 500, 750)

NUMBER_WORD_SHARE = 0.10
"""Share of the orders written as sentences whose quantity is a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What one mail asks for."""

    customer: str
    sku: str
    quantity: int
    written_quantity: str
    delivery: str
    reference: str | None

    def as_json(self) -> str:
        """Return the answer: one compact object with the same keys in every order."""
        return json.dumps(
            {
                "customer": self.customer,
                "sku": self.sku,
                "quantity": self.quantity,
                "delivery": self.delivery,
                "reference": self.reference,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )


def number_word(number: int) -> str:
    """Return the English word for a number from 2 to 19, or for 20 to 89 as tens and ones."""
    if number < 20:
        return _SMALL[number - 2]
    tens, ones = number - number % 10, number % 10
    return _TENS[tens] if not ones else f"{_TENS[tens]}-{('one', *_SMALL)[ones - 1]}"


def _spoken(rng: random.Random, number: int) -> str:
    dozens = {12: "a dozen", 24: "two dozen"}
    return dozens[number] if number in dozens and rng.random() < 0.3 else number_word(number)


def article_number(rng: random.Random) -> str:
    """Return an article number in one of the styles that suppliers use."""

    def letters(count: int) -> str:
        return "".join(rng.choice("ABCDEFGHKLMNPRSTVWXZ") for _ in range(count))

    def digits(count: int) -> str:
        return str(rng.randint(1, 9)) + "".join(rng.choices(string.digits, k=count - 1))

    style = rng.randrange(9)
    if style <= 1:
        return f"{letters(2)}-{digits(4)}-{letters(1)}"
    if style == 2:
        return f"{letters(2).lower()} {digits(2)}/{digits(2)}"
    if style == 3:
        return f"{letters(3)}{digits(6)}"
    if style == 4:
        return f"{letters(2)}.{digits(2)}-{digits(3)}"
    if style == 5:
        return f"{digits(4)}-{letters(2)}"
    if style == 6:
        return f"{letters(2)}_{digits(4)}"
    if style == 7:
        return f"{letters(1).lower()}{digits(3)}-{letters(2).lower()}{digits(1)}"
    return f"{letters(2)}{digits(3)}/{letters(1)}"


class OrderMail(NamedTuple):
    """An order e-mail without any instruction."""

    text: str
    """Header, body, signature and quotation."""

    answer: str
    """The JSON of the order."""


def write_order(rng: random.Random) -> DemoRequest:
    """Write an order e-mail together with the request to turn it into JSON."""
    mail = write_order_mail(rng)
    if rng.random() < 0.2:
        instruction = rng.choice(wording.INSTRUCTIONS_AFTER)
        text = f"{mail.text}{rng.choice(wording.FENCES[:2])}{instruction}"
    else:
        instruction = rng.choice(wording.INSTRUCTIONS_BEFORE)
        text = f"{instruction}{rng.choice(wording.FENCES)}{mail.text}"
    return DemoRequest(task="order", request=text, answer=mail.answer)


def write_order_mail(rng: random.Random) -> OrderMail:
    """Write an order e-mail with its JSON.

    Drafts in which the quantity could be read from a second place are thrown away.
    """
    while True:
        order, text = _draft(rng)
        if _is_plain(text, order):
            return OrderMail(text=text, answer=order.as_json())


def _draft(rng: random.Random) -> tuple[_Order, str]:
    person = f"{rng.choice(names.FIRST_NAMES)} {rng.choice(names.LAST_NAMES)}"
    order_is_form = rng.random() < 0.35
    as_word = not order_is_form and rng.random() < NUMBER_WORD_SHARE
    if as_word:
        quantity = rng.choice(_SPOKEN)
    else:
        quantity = rng.choice(_ROUND) if rng.random() < 0.4 else rng.randint(2, 69)
    delivery = rng.choice(("express", "pickup", "standard", "standard"))
    order = _Order(
        customer=_firm(rng),
        sku=article_number(rng),
        quantity=quantity,
        written_quantity=_spoken(rng, quantity) if as_word else str(quantity),
        delivery=delivery,
        reference=_reference(rng) if rng.random() < 0.55 else None,
    )
    slots = _slots(rng, order, person)
    return order, _mail(rng, order, person, order_is_form, slots)


def _firm(rng: random.Random) -> str:
    form = rng.choice(names.FIRM_FORMS)
    firm = f"{rng.choice(names.FIRM_ROOTS)} {rng.choice(names.FIRM_TRADES)}"
    return f"{firm} {form}" if form else firm


def _reference(rng: random.Random) -> str:
    number = rng.randint(1000, 99999)
    return rng.choice(
        (
            f"PO-{number}",
            f"PO{number}",
            f"Q-{number}",
            f"{rng.randint(23, 27)}/{rng.randint(1000, 9999)}",
            f"B{rng.randint(100, 999)}-{rng.randint(10, 99)}",
            f"REQ-{number}",
        )
    )


def _slots(rng: random.Random, order: _Order, person: str) -> dict[str, str]:
    day, month = rng.randint(1, 28), rng.choice(names.MONTHS)
    date = rng.choice((f"{day} {month}", f"{day}.{rng.randint(1, 12)}.", f"{month} {day}"))
    price = f"{rng.randint(15, 4800)}.{rng.randint(10, 99)}"
    handle = person.lower().replace(" ", ".")
    return {
        "q": order.written_quantity,
        "Q": order.written_quantity.capitalize(),
        "u": rng.choice(names.UNITS),
        "s": order.sku,
        "g": rng.choice(names.GOODS),
        "firm": order.customer,
        "person": person,
        "first": rng.choice(names.FIRST_NAMES),
        "last": rng.choice(names.LAST_NAMES),
        "town": rng.choice(names.TOWNS),
        "street": rng.choice(names.STREETS),
        "house": str(rng.randint(1, 180)),
        "weekday": rng.choice(names.WEEKDAYS),
        "month": month,
        "date": date,
        "hour": f"{rng.randint(6, 9)}:{rng.choice(('00', '15', '30'))}",
        "hour2": f"{rng.randint(15, 18)}:{rng.choice(('00', '30', '45'))}",
        "price": rng.choice((f"{price} EUR", f"EUR {price}", f"${price}")),
        "phone": f"+1 555 01{rng.randint(10, 99)} {rng.randint(100, 999)}",
        "old": rng.choice((f"#{rng.randint(10000, 99999)}", f"SO-{rng.randint(10000, 99999)}")),
        "inv": f"INV-{rng.randint(1000, 9999)}",
        "n1": str(rng.randint(2, 40)),
        "days": str(rng.choice((10, 14, 30, 60))),
        "percent": str(rng.randint(2, 12)),
        "year": str(rng.randint(1987, 2021)),
        "vat": f"DE{rng.randint(100000000, 999999999)}",
        "cust": f"C{rng.randint(10000, 99999)}",
        "othersku": article_number(rng),
        "email": f"{handle}@{order.customer.split()[0].lower()}.example",
        "r": order.reference or "",
    }


def _mail(
    rng: random.Random,
    order: _Order,
    person: str,
    order_is_form: bool,
    slots: dict[str, str],
) -> str:
    """Put header, greeting, body, signature and quotation together."""
    firm_in_opener = rng.random() < 0.55
    openers = surroundings.OPENERS_WITH_FIRM if firm_in_opener else surroundings.OPENERS
    opener = rng.choice(openers).format(**slots)
    greeting = rng.choice(surroundings.GREETINGS).format(**slots)
    if not greeting and opener:
        opener = opener[0].upper() + opener[1:]

    body = [_order_text(rng, order_is_form, slots)]
    if order.delivery == "express":
        body.append(rng.choice(wording.EXPRESS))
    elif order.delivery == "pickup":
        body.append(rng.choice(wording.PICKUP).format(**slots))
    elif rng.random() < 0.6:
        body.append(rng.choice(wording.STANDARD))
    if order.reference is not None:
        body.append(rng.choice(wording.REFERENCE).format(**slots))
    chatter = rng.sample(surroundings.CHATTER, k=rng.choice((0, 1, 1, 2, 2, 3)))
    body += [line.format(**slots) for line in chatter]
    rng.shuffle(body)
    ending = rng.choice(surroundings.QUESTIONS).format(**slots)
    if ending:
        body.append(ending)

    glue = rng.choice((" ", " ", "\n", "\n\n"))
    if order_is_form:
        glue = "\n"
    parts = [
        _misspell(rng, "\n".join(part for part in (greeting, opener) if part)),
        _misspell(rng, glue.join(body)),
        _signature(rng, order, person, firm_in_opener, slots),
    ]
    text = rng.choice(("\n\n", "\n")).join(part for part in parts if part)
    text = _header(rng, person, slots) + text
    if rng.random() < 0.15:
        text += "\n\n" + rng.choice(surroundings.QUOTED).format(**slots)
    return text


def _order_text(rng: random.Random, order_is_form: bool, slots: dict[str, str]) -> str:
    if not order_is_form:
        return rng.choice(wording.PROSE).format(**slots)
    line = rng.choice(wording.FORMS).format(**slots)
    return f"{rng.choice(wording.FORM_LEADS)}\n{line}" if rng.random() < 0.7 else line


def _header(rng: random.Random, person: str, slots: dict[str, str]) -> str:
    lines = []
    if rng.random() < 0.3:
        lines.append(f"From: {person} <{slots['email']}>")
    if rng.random() < 0.4:
        lines.append("Subject: " + rng.choice(surroundings.SUBJECTS).format(**slots))
    if lines and rng.random() < 0.4:
        lines.append(f"Date: {slots['date']}, {slots['hour']}")
    return "\n".join(lines) + "\n\n" if lines else ""


def _signature(
    rng: random.Random,
    order: _Order,
    person: str,
    firm_known: bool,
    slots: dict[str, str],
) -> str:
    """Return the end of the mail; it names the firm, if the opening did not for certain."""
    lines = [rng.choice(surroundings.CLOSINGS), person]
    if not firm_known or rng.random() < 0.35:
        if rng.random() < 0.3:
            lines.append(rng.choice(surroundings.ROLES))
        lines.append(order.customer)
    if rng.random() < 0.35:
        lines.append(f"{slots['street']} {slots['house']}, {slots['town']}")
    if rng.random() < 0.35:
        lines.append(rng.choice(("Tel. {phone}", "Phone {phone}", "{phone}")).format(**slots))
    return "\n".join(lines)


def _misspell(rng: random.Random, text: str) -> str:
    """Misspell one everyday word in about every sixth mail; values are never touched."""
    if rng.random() > 0.16:
        return text
    known = [word for word in re.findall(r"[a-z]+", text) if word in surroundings.MISSPELLED]
    if not known:
        return text
    word = rng.choice(known)
    return re.sub(rf"\b{word}\b", surroundings.MISSPELLED[word], text, count=1)


def _is_plain(text: str, order: _Order) -> bool:
    """Whether the quantity and the article number stand in one place each."""
    pattern = rf"(?<![\w.,/-]){order.quantity}(?![\w/-]|[.,:]\d)"
    found = len(re.findall(pattern, text)) + len(re.findall(rf"\b{order.quantity}x", text))
    if order.quantity in range(2, 70):
        found += len(re.findall(rf"(?i)(?<![\w-]){number_word(order.quantity)}(?![\w-])", text))
    if order.written_quantity.endswith("dozen"):
        found += len(re.findall(r"(?i)dozen", text))
    return found == text.count(order.sku) == 1
