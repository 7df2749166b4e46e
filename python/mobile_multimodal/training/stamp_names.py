"""Gives stamps the names that questions use, where their description says more, less or something else."""

from __future__ import annotations

from typing import Final


def _read(lines: str) -> dict[str, str]:
    """Each entry "name: what it is called elsewhere, ..."; indented lines go on with it."""
    names: dict[str, str] = {}
    for entry in lines.strip().replace("\n    ", " ").splitlines():
        name, _, others = entry.partition(":")
        names |= {other.strip(): name for other in others.split(",")}
    return names


# By the last words of the description.
NAME_OF_WORDS: Final = _read("""
car: sedan car, sports car, race car, beetle, sedan
bus: green bus, decker bus
bear: european bear
truck: toy cement truck, dump truck, tow truck, pickup truck, cement truck
hat: feathered hat, propeller hat, top hat, christmas hat, party hat, fedora, sombrero
hot air balloon: air balloon
trash can: garbage can, compost bin
egg: easter egg
candle: lit candle
star: colorful star
tower: round tower, square tower, watch tower
lion: happy lion
light: christmas light
rabbit: bunny, bunny-egg
trophy: trophy cup
goat: mountaingoat
chicken: hen
duck: drake
goose: gander
camel: dromedary
deer: doe, wapiti
sheep: lamb, ram
chimpanzee: chimp
tiger: sumatran tiger
hippo: hippopotamus
kiwi: kiwifruit
cherry: cherries
blueberry: blueberries
orange: mandarin orange, mandarine
apple: green apple, red apple, granny smith
drum: tomtom drum
train: locomotive
boat: tugboat, sailboat
parrot: rosella, lorikeet
seagull: gull
peacock: peahen
guinea fowl: guineafowl, fowl
pepper: chilepepper
boar: boars
wrench: plumber’s wrench
traffic light: light red
flower: anemone flower, hibiscus flower, flowers, daffodil, iris, marigold, petunia, gazania
fish: butterflyfish, clownfish, groper, trout, wrasse, dolphinfish, lionfish, stripey fish
wasp: hornet
fly: hoverfly
spider: tarantula
moon: lunar
shirt: polo shirt, t shirt
sock: christmas stocking, stocking
glass: glass of water
pen: marker
hammer: mallet
shovel: spade
light bulb: lightbulb
""")
# By the file's name without its suffix: the description is a sentence, or names a kind that nobody asks for.
NAME_OF_FILE: Final = _read("""
penguin: tux
moon: moon_3qt, moon_full, moon_crescent
earth: 3_earth
saturn: 6_saturn
sun: 0_sun
airplane: plane, 747
stop sign: stop
broccoli: broccoli
fire: fire
lightning: lightningbolt
helicopter: eddieCopter
fireman: fireman240a, fireman200b
wheel: 7spoke256, wheel_tractor
teddy bear: edward_bear, teddy_bear
lobster: lobster
fish: bluegroper
toilet: toilet
leaves: holly_leaves, holly
santa claus: Santa
helmet: football_helmet_front, football_helmet_side, knight_helmet
traffic light: stoplight_01_red, stoplight_02_yellow, stoplight_03_green
trash can: home_compost_bin, wheelie_bin
fire truck: firetruck, fire_engine
garbage truck: garbagetruck
mailbox: uk_post_box, usps_mailbox
astronaut: spacewalk
rubber duck: rubberduck
tractor: tux_tractor
truck: dumper, towTruck, cementMixer, terex
guitar: guitar_electric_bass
egg: wrapped_chocolate_easter_egg, wrapped_chocolate_easter_egg_2
pizza: pizza
candy cane: candy_cane, Candy_cane_photo_1, Candy_cane_photo_2
roast turkey: Roast_turkey
apple: apple_core
sheep: sheep_lamb
rabbit: bunny-egg
chick: chick-hatched, chick-in-egg
walnut: walnut_shelled
pot: pasta_pot, pressure_cooker
ginger: ginger
measuring tape: measuring_tape
lavender: lavender
eggplant: eggplant
pumpkin: jackolantern_mean
football: australian_rules_football
peacock: albino_peahen, peacock, peahen
orange: orange_seville
cat: blackcat
gnu: gnu-baby, gnu-baby-stand
train: toy_train
wreath: xmaswreath
house: pinkhome, cityhouse, wooden_cottage
mermaid: mermaid
eiffel tower: eiffel_tower
castle: fairytale_castle, fort, fortress
sword: sword_in_the_stone
tower: tower_flag_red, tower_round_flag
fly: hoverfly
sea lion: sea_lion
bus: double_decker_bus, green_korean_bus
hot air balloon: balloon360
ship: chineseJunk
garlic: garlics, garlic
chicken: chicken_profile
lettuce: lettuce_bolted, redlettuce
thyme: thyme
sock: t_sock
gas cylinder: cylinder
goal posts: rugby_goal_posts
light: lamp
avocado: avocado
cherimoya: cherimoya
tomato: tomato
lemon: lemon_slice
glass: glass
drums: drumkit
cement mixer: cementmixer
totem pole: totem
pepper grinder: pepper_grinder
traffic cone: traffic_cone
party horn: party-horn-in
""")
# Folders and files that show no thing, or one that is unclear at a fifth of a picture.
LEFT_OUT: Final = (
    "*_mirror.png", "symbols/*", "military/*", "medical/*", "people/body_parts/*", "town/flags/*", "town/cartoon/*",
    "town/monuments/inukshuk*", "town/monuments/cartoon/magic_stones.png", "seasonal/hanukkah/*",
    "seasonal/halloween/grave-*", "seasonal/newyears/confetti.png", "naturalforces/explosion.png",
    "people/toys/grannysmith.png", "space/apollo_lander.png", "space/voyager2.png", "space/planets/[1245789]_*",
)  # fmt: skip
_LEFT_OUT_NAMES = """
penguin_with_spider pengwin nandou dinosaurSings spider_computer spider_fly spider_football wings xanthia
indian_blackbuck adeenia anthoorium appooppanthady bolsom chemparathi pigface chuvanna_plastic_poo whitestar-petunia
cep-1 cep-2 cep birch holm_oak rambutan tree336 Christmas_pudding German_Christmas_toy Mince_Pie
hard_candy xmas_tp_bulb blacksmith cathedral cave_entrance circus city cityhouse farm fishery hunter inn
jailhouse monastery stables swisshome tavern townhall university warehouse graveyard arrow crossroads
dead_end_sign give_way_sign hospital no_entry_sign no_uturn railroad_crossing roundabout school_sign t-junction
toilets xing_ped xing_school yield sedan_police boxcar caboose carriage tanker tender trainSign bathyscape
walnutBoat
"""
LEFT_OUT_FILES: Final = frozenset(_LEFT_OUT_NAMES.split())
