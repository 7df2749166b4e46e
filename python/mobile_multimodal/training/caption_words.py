"""Knows the words of captions that questions are made from: nouns, colours, numbers, actions and places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Noun:
    """What a word of a caption names: `name` is what a question says, `is_plural` how the word stood there."""

    name: str
    is_plural: bool


def _table(lines: str) -> dict[str, Noun]:
    """Each line "name plural | other words for it, `*` behind a plural one"."""
    words = {}
    for line in filter(None, map(str.strip, lines.splitlines())):
        own, _, others = line.partition("|")
        name, plural = (part.strip().replace("_", " ") for part in own.split())
        words[name] = Noun(name, False)
        if plural != "-":
            words[plural] = Noun(name, True)
        for other in others.split():
            words[other.rstrip("*")] = Noun(name, other.endswith("*"))
    return words


_DOG_BREEDS = (
    "puppy puppies* greyhound greyhounds* poodle poodles* retriever retrievers* terrier terriers* collie lab labrador "
    "rottweiler bulldog husky dalmatian beagle dachshund doggy pug boxer spaniel pup pups* whippet chihuahua"
)
ANIMALS: Final = _table(
    f"""dog dogs | {_DOG_BREEDS}
    cat cats | kitten kittens*
    horse horses | pony ponies* stallion
    bird birds | pigeon pigeons* seagull seagulls* eagle hawk parrot owl heron pelican swan swans* flamingo flamingos*
    duck ducks | ducks* mallard
    goose geese
    cow cows | cattle* calf
    bull bulls
    sheep sheep
    goat goats
    monkey monkeys
    elephant elephants
    camel camels
    donkey donkeys
    rabbit rabbits | bunny
    squirrel squirrels
    deer deer
    bear bears
    fish fish
    turtle turtles
    butterfly butterflies
    bee bees
    insect insects | bug
    snake snakes
    lion lions
    tiger tigers
    zebra zebras
    giraffe giraffes
    pig pigs
    fox foxes
    """
)
ANIMALS["sheep"] = Noun("sheep", True)
MEN: Final = _table("man men | guy guys* gentleman gentlemen* groom male cowboy cowboys* fisherman father dad")
WOMEN: Final = _table("woman women | lady ladies* bride female mother mom lady's")
BOYS: Final = _table("boy boys")
GIRLS: Final = _table("girl girls")
SMALL: Final = _table(
    """child children | kid kids* youngster youngsters* toddler toddlers*
    baby babies | infant"""
)
_ROLES = (
    "people* adult adults* teenager teenagers* teen teens* couple* crowd* team* family* skateboarder skateboarders* "
    "snowboarder snowboarders* surfer surfers* skier skiers* biker bikers* cyclist cyclists* bicyclist bicyclists* "
    "rider riders* climber climbers* hiker hikers* player players* runner runners* swimmer motorcyclist wrestler "
    "wrestlers* someone owner friend friends* driver performer performers* dancer dancers* goalie athlete athletes* "
    "racer racers* skater skaters* boater kayaker clown musician musicians* spectators* individual individuals* "
    "tourists* worker workers* photographer gymnast band* group* fans* audience* soldiers* officer officers* "
    "cheerleader cheerleaders* backpacker rollerblader quarterback pitcher batter singer guitarist acrobat parasailer "
    "onlookers* pedestrian pedestrians* sooners* anyone everyone* human humans* hands hand feet face"
)
ANYONE: Final = _table(f"person persons | {_ROLES}")
PEOPLE: Final = {**ANYONE, **SMALL, **BOYS, **GIRLS, **WOMEN, **MEN}
CLOTHES: Final = _table(
    """shirt shirts | t-shirt t-shirts* tshirt
    jacket jackets
    coat coats
    hat hats
    cap caps
    helmet helmets
    dress dresses
    sweater sweaters
    sweatshirt sweatshirts
    skirt skirts
    vest vests
    suit suits
    uniform uniforms
    jersey jerseys
    swimsuit swimsuits
    wetsuit wetsuits
    scarf scarves
    bikini bikinis
    hoodie hoodies
    shorts - | shorts*
    pants - | pants*
    jeans - | jeans*
    overalls - | overalls*
    backpack backpacks
    collar collars"""
)
PAIRS: Final = {"shorts", "pants", "jeans", "overalls", "skis", "sunglasses", "rapids", "woods", "stairs"}
THINGS: Final = _table(
    """ball balls | baseball softball
    frisbee frisbees
    stick sticks
    toy toys
    bike bikes | bicycle bicycles* bmx
    motorcycle motorcycles | motorbike motorbikes*
    car cars
    truck trucks
    bus buses
    train trains | subway
    boat boats | sailboat canoe canoes* kayak kayaks* raft
    skateboard skateboards
    surfboard surfboards
    snowboard snowboards
    sled sleds
    scooter scooters
    guitar guitars
    umbrella umbrellas
    bench benches
    chair chairs
    couch couches | sofa
    bed beds
    table tables
    flag flags
    kite kites
    balloon balloons
    rope ropes
    tent tents
    slide slides
    swing swings
    trampoline trampolines
    fountain fountains
    bridge bridges
    hoop hoops
    camera cameras
    cellphone cellphones | phone
    book books
    newspaper newspapers
    microphone microphones
    violin violins
    racket rackets | racquet
    bat bats
    cup cups
    bottle bottles
    cigarette cigarettes
    flower flowers
    tire tires
    tunnel tunnels
    leash leashes
    ladder ladders
    wheelchair wheelchairs
    stroller strollers
    tree trees
    rock rocks | boulder boulders*
    wall walls
    fence fences
    building buildings
    house houses
    sign signs
    window windows
    bag bags | purse
    blanket blankets
    hurdle hurdles
    ramp ramps
    rail rails | railing handrail
    mountain mountains
    cliff cliffs
    hill hills
    wave waves
    ice_cream -
    skis - | skis*
    sunglasses - | sunglasses* goggles* glasses*
    tube tubes
    bucket buckets
    hose hoses
    box boxes"""
)
# A caption that leaves these out does not say that they are not there; a question about them needs a mention.
BACKGROUND: Final = {
    "tree", "rock", "wall", "fence", "building", "house", "sign", "window", "bag", "rail", "mountain", "hill", "wave",
    "cliff", "box", "blanket", "flower", "camera", "cup", "chair", "table", "rope", "bottle", "toy", "collar", "stick",
    "ball", "tube", "hoop", "ramp", "bat", "leash", "book", "bucket",
}  # fmt: skip
COLOURS: Final = {
    "black": "black", "white": "white", "brown": "brown", "tan": "tan", "golden": "tan", "beige": "tan", "red": "red",
    "blue": "blue", "yellow": "yellow", "green": "green", "orange": "orange", "pink": "pink", "purple": "purple",
    "gray": "gray", "grey": "gray",
}  # fmt: skip
# Two people call the same thing by either word; neither is a wrong answer, so neither makes a "no".
NEAR_COLOURS: Final = (
    {"brown", "tan"}, {"tan", "yellow"}, {"tan", "white"}, {"red", "orange"}, {"yellow", "orange"}, {"gray", "black"},
    {"gray", "white"}, {"pink", "red"}, {"pink", "purple"}, {"purple", "blue"}, {"brown", "red"}, {"brown", "orange"},
    {"gray", "blue"}, {"yellow", "green"}, {"blue", "green"}, {"gray", "brown"}, {"black", "brown"},
)  # fmt: skip
NUMBERS: Final = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "1": 1, "2": 2, "3": 3,
    "4": 4, "5": 5,
}  # fmt: skip
_ADJECTIVE_WORDS = """
small large big little young old older tall short long fluffy furry wet happy tiny huge muddy shaggy asian blond
blonde dark light bright haired colored striped skinny elderly female male adult medium-sized sized medium baby
adorable cute plastic toy rubber wooden leather metal knit winter sports tennis soccer golf bathing dress hooded
sleeveless long-sleeved short-sleeved matching toddler shirtless smiling naked spotted hairy bearded brightly
pretty bald football basketball baseball hockey dirty stuffed dirt mountain racing sport rescue american african
german denim jean rain ski bike straw cowboy knitted button-up polo plaid flowered floral heavy thick
brightly-colored teenage preteen curly
"""
# What may stand between a number or a colour and its noun.
ADJECTIVES: Final = frozenset(_ADJECTIVE_WORDS.split())
