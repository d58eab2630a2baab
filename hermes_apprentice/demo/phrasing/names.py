"""Invented people, firms, places and goods.

Knows nothing about the texts they end up in.
"""

from __future__ import annotations

FIRST_NAMES = (
    "Agnes", "Bilal", "Carla", "Dario", "Edith", "Farid", "Greta", "Hamza", "Imke", "Jonas",
    "Katya", "Liam", "Mirela", "Nadim", "Olga", "Pavel", "Quentin", "Rosa", "Stellan", "Tamar",
    "Ulrich", "Vera", "Wanda", "Xenia", "Yusuf", "Zofia", "Anton", "Berit", "Cosmo", "Delia",
)  # fmt: skip

LAST_NAMES = (
    "Abelmann", "Brightwater", "Castellan", "Dunmore", "Eklund", "Farrow", "Gallagher-Voss",
    "Hartigan", "Ibarra", "Jankovic", "Kestrel", "Lindqvist", "Marlowe", "Nakagawa", "Osterman",
    "Petrescu", "Quill", "Ravensdale", "Sandoval", "Thackeray", "Underhill", "Villanueva",
    "Wexford", "Yildiz", "Zeller", "Okonjo", "Pemberton", "Rasmussen", "Silvestri", "Tobin",
)  # fmt: skip

FIRM_ROOTS = (
    "Alderbrook", "Bluestone", "Cedarline", "Dovetail", "Eastmere", "Fenwick", "Granary", "Halden",
    "Ironwood", "Junction", "Kingfisher", "Larkspur", "Millrace", "Northgate", "Oakhurst",
    "Pinecrest", "Quarry", "Ridgeway", "Saltmarsh", "Thornbury", "Umber", "Valebridge", "Westhaven",
    "Yarrow", "Zephyr", "Brunner", "Castell", "Delacroix", "Eriksen", "Fontana", "Grunwald",
    "Hartmann", "Ilves", "Jansson", "Kowalczyk", "Lorenz", "Moreau", "Novak", "Olsen", "Pellegrini",
)  # fmt: skip

FIRM_TRADES = (
    "Joinery", "Metalworks", "Interiors", "Boatyard", "Fittings", "Electrics", "Kitchens",
    "Machining", "Roofing", "Glass", "Workshops", "Automation", "Plumbing", "Logistics", "Bakery",
    "Hardware", "Engineering", "Packaging", "Bikes", "Gardens", "Elevators", "Signs", "Foundry",
    "Hotels",
)  # fmt: skip

FIRM_FORMS = ("Ltd", "GmbH", "Inc.", "& Sons", "BV", "Co.", "AB", "", "", "")

STREETS = (
    "Harbour Lane", "Mill Road", "Foundry Street", "Old Station Yard", "Canal Row", "Quay Side",
    "Lime Avenue", "Tannery Court", "Weaver Street", "Orchard Close",
)  # fmt: skip

TOWNS = (
    "Aldermoor", "Brackenford", "Clovenhill", "Dunwater", "Eastport", "Fallowfield", "Greystead",
    "Hollinwell", "Kelmarsh", "Larchmont", "Mossgate", "Norwick",
)  # fmt: skip

GOODS = (
    "hinges", "drawer runners", "filter cartridges", "cable glands", "corner brackets",
    "door seals", "pump heads", "bearing rings", "clamps", "tap inserts", "mounting plates",
    "castor wheels", "hose couplings", "relay sockets", "shelf pins", "pressure gauges",
    "grinding discs", "lamp holders", "valve caps", "gas springs",
)  # fmt: skip

UNITS = ("pieces", "pcs", "units", "boxes", "packs", "sets", "rolls", "cartons", "bags", "pairs")

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
