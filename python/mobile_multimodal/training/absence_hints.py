"""Lists words that make it unsure whether a thing is absent, although no caption names it."""

from __future__ import annotations

from typing import Final


def _read(lines: str) -> dict[str, frozenset[str]]:
    """Each entry "thing: words"; indented lines go on with it."""
    entries: dict[str, frozenset[str]] = {}
    for entry in lines.strip().replace("\n    ", " ").splitlines():
        name, _, words = entry.partition(":")
        entries[name] = frozenset(words.split())
    return entries


# A cyclist rides a bike that the caption leaves out: no picture with one answers "Is there a bike?" by "no".
HINTS: Final = _read("""
bike: biker bikers cyclist cyclists bicyclist bicyclists biking rider pedal cycling wheelie motorcycle bmx wheel
    stunt jumper trick ride rides racer ramp
motorcycle: motocross biker rider racer bike atv vehicle motorcyclist dirtbike bikes racing moto vehicles
car: vehicle jeep truck traffic van suv taxi race racing street road automobile vehicles parking city cars cab
truck: vehicle jeep van traffic street road car vehicles fire
bus: vehicle traffic street city vehicles
train: station tracks rail locomotive railroad
boat: ship sail rowing paddling paddles rafting kayaker kayaking lake dock harbor rapids ocean sea boating
    wakeboard wakeboarding rafters vessel jet waterskiing oar watercraft jetski
skateboard: skateboarder skateboarding skater skate board skateboards skateboarders skating longboard
surfboard: surfer surfing surfs surf board boogie bodyboard wakeboard surfers
snowboard: snowboarder snowboarding board snowboards snowboarders ski skis
sled: sledding sleigh tube toboggan sleds snowmobile
skis: skier skiing ski skiers snowboard snowboarder pole poles
kite: parasail flying parachute kitesurfing
balloon: balloons party
flag: flags parade
umbrella: umbrellas rain parasol
racket: tennis racquet badminton
frisbee: disc disk object toy catch plate
guitar: band guitarist musician instrument instruments music musicians plays concert stage
violin: band musician instrument instruments music orchestra musicians
microphone: singing singer stage band sings singers concert mic speaking speech interview performing
newspaper: reading paper reads magazine
cigarette: smoking smokes smoke cigar cigarettes
cellphone: phone cell talking talks telephone camera cellular
bench: seat sitting sits benches sit bleachers picnic table
couch: sofa sitting chair furniture bed seat sits
bed: sleeping asleep couch mattress bedroom sheets crib laying lying lies
trampoline: bouncing bounces bounce inflatable
slide: slides sliding playground inflatable chute
swing: swinging swings swingset playground rope
tunnel: tube tunnels agility obstacle
tent: camp camping canopy tents awning
fountain: fountains sprinkler water
bridge: overpass bridges dock pier walkway
hat: cap hats headgear hood bandanna helmet beanie costume helmets santa cowboy turban visor headscarf uniform
    uniforms
helmet: gear hockey football helmets motorcycle bike motocross rider biker cyclist baseball uniform uniforms
    costume hat headgear racer player players team rafting
sunglasses: glasses goggles shades mask
backpack: hiker hiking bag pack backpacker hikers backpacks climber hikes climbers bags mountain
scarf: scarves headscarf bandanna bandana shawl winter
scooter: moped vespa scooters vehicle
wheelchair: wheelchairs
stroller: carriage strollers pram
man: boy boys people person
woman: girl girls people person
duck: bird birds goose geese animal
bird: duck ducks goose geese animal chicken rooster chickens penguin animals
cow: bull bulls rodeo animal calf cattle
bull: cow cows rodeo animal cattle ox
fish: fishing aquarium underwater diver scuba
bear: costume mascot
turtle: animal underwater
baby: infant newborn
""")
