"""Names and words that `names` tells persons, places and organisations by.

Everything is in lower case. The lists are short on purpose: they hold what news names most often,
and the words around a name decide about the rest.

They hold common knowledge (present and former states, large cities, frequent given names) and are
kept by hand: no program makes them, neither they nor their history name a published list, and none
is complete. The rules that use them were written while one half of SQuAD 2.0's development set
was read, see eval/README.md.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    """Names separated by commas, new lines being spaces."""
    return frozenset(name for part in text.split(",") if (name := " ".join(part.split())))


COUNTRIES = _names("""
afghanistan, albania, algeria, andorra, angola, antigua, argentina, armenia, australia, austria,
azerbaijan, bahamas, bahrain, bangladesh, barbados, belarus, belgium, belize, benin, bhutan,
bolivia, bosnia, bosnia and herzegovina, botswana, brazil, britain, brunei, bulgaria, burkina faso,
burma, burundi, cambodia, cameroon, canada, cape verde, central african republic, chad, chile,
china, colombia, comoros, congo, costa rica, croatia, cuba, cyprus, czech republic, czechia,
czechoslovakia, côte d'ivoire, denmark, djibouti, dominica, dominican republic, dr congo, east
germany, east timor, ecuador, egypt, el salvador, england, equatorial guinea, eritrea, estonia,
eswatini, ethiopia, fiji, finland, france, gabon, gambia, gaza, georgia, germany, ghana, great
britain, greece, greenland, grenada, guatemala, guinea, guinea-bissau, guyana, haiti, holland,
honduras, hong kong, hungary, iceland, india, indonesia, iran, iraq, ireland, israel, italy, ivory
coast, jamaica, japan, jordan, kazakhstan, kenya, kiribati, korea, kosovo, kuwait, kyrgyzstan,
laos, latvia, lebanon, lesotho, liberia, libya, liechtenstein, lithuania, luxembourg, macau,
macedonia, madagascar, malawi, malaysia, maldives, mali, malta, mauritania, mauritius, mexico,
micronesia, moldova, monaco, mongolia, montenegro, morocco, mozambique, myanmar, namibia, nauru,
nepal, netherlands, new zealand, nicaragua, niger, nigeria, north korea, north macedonia, northern
ireland, norway, oman, ottoman empire, pakistan, palau, palestine, panama, papua new guinea,
paraguay, persia, peru, philippines, poland, portugal, prussia, puerto rico, qatar, romania,
russia, russian federation, rwanda, samoa, san marino, saudi arabia, scotland, senegal, serbia,
seychelles, siam, sierra leone, singapore, slovakia, slovenia, solomon islands, somalia,
somaliland, south africa, south korea, south sudan, south vietnam, soviet union, spain, sri lanka,
sudan, suriname, sweden, switzerland, syria, taiwan, tajikistan, tanzania, thailand, tibet, togo,
tonga, trinidad and tobago, tunisia, turkey, turkmenistan, tuvalu, türkiye, u.k, u.k., u.s, u.s.,
u.s.a, u.s.a., uae, uganda, uk, ukraine, united arab emirates, united kingdom, united states,
united states of america, uruguay, us, usa, ussr, uzbekistan, vanuatu, vatican, vatican city,
venezuela, vietnam, wales, west germany, yemen, yugoslavia, zaire, zambia, zimbabwe
""")

REGIONS = _names("""
abkhazia, acadia, adriatic, aegean, africa, alabama, alaska, alberta, aleppo, alps, alsace, amazon,
america, anatolia, andalusia, andes, annam, antarctica, aquitaine, arabia, arctic, arizona,
arkansas, asia, asia minor, assam, atlantic, australasia, bahia, bakhmut, balkans, balochistan,
baltic, basra, bavaria, bengal, bihar, black sea, bohemia, borneo, bosporus, brandenburg, british
columbia, brittany, burgundy, calabria, california, canary islands, cape colony, caribbean,
carolina, cascadia, caspian, castile, catalonia, caucasus, central africa, central america, central
asia, central europe, chechnya, chiapas, colorado, connecticut, corsica, crete, crimea, dagestan,
dalmatia, darfur, delaware, donbas, donetsk, east africa, east asia, eastern europe, euphrates,
eurasia, europe, flanders, florida, fujian, galicia, ganges, gascony, gaza strip, golan heights,
guangdong, gujarat, gulf, hainan, hawaii, hebei, helmand, henan, himalayas, hokkaido, holy land,
horn of africa, hunan, iberia, idaho, idlib, illinois, indian ocean, indiana, indochina,
ingushetia, iowa, jalisco, java, jiangsu, kandahar, kansas, karnataka, kashmir, kentucky, kerala,
khartoum, khorasan, khyber pakhtunkhwa, kivu, kunar, kurdistan, languedoc, lapland, latin america,
levant, lombardy, lorraine, louisiana, luhansk, maghreb, maharashtra, maine, manchuria, manitoba,
maryland, massachusetts, mediterranean, melanesia, mesopotamia, michigan, middle east, midlands,
midwest, minnesota, mississippi, missouri, moluccas, montana, moravia, nagorno-karabakh, nangarhar,
near east, nebraska, nevada, new brunswick, new england, new france, new hampshire, new jersey, new
mexico, new south wales, newfoundland, nile, normandy, north africa, north america, north carolina,
north dakota, north sea, northern europe, northwest territories, nova scotia, nubia, oaxaca,
oceania, ohio, okinawa, oklahoma, ontario, oregon, pacific, pacific ocean, palatinate, papua,
patagonia, pennsylvania, persian gulf, picardy, piedmont, polynesia, pomerania, provence, punjab,
pyrenees, quebec, queensland, rajasthan, rakhine, red sea, rhine, rhineland, rhode island,
rhodesia, rif, sahara, sahel, sardinia, saskatchewan, savoy, saxony, scandinavia, senegambia,
siberia, sichuan, sicily, silesia, silicon valley, sinai, sindh, somme, south america, south asia,
south australia, south carolina, south china sea, south dakota, south ossetia, southeast asia,
southern africa, strait of hormuz, sub-saharan africa, suez canal, sumatra, swabia, tamil nadu,
tasmania, tennessee, texas, thames, thrace, thuringia, tigray, transnistria, transylvania, tuscany,
tyrol, ulster, urals, utah, uttar pradesh, vermont, virginia, volga, waziristan, west africa, west
bank, west indies, west virginia, western australia, western europe, western sahara, wisconsin,
wyoming, xinjiang, yangtze, yellow river, yorkshire, yucatán, yunnan, zhejiang, zululand
""")

CITIES = _names("""
aachen, abidjan, abu dhabi, abuja, accra, addis ababa, adelaide, aden, ahmedabad, albany, aleppo,
alexandria, algiers, almaty, amman, amsterdam, ankara, antananarivo, antioch, antwerp, asmara,
astana, asunción, athens, atlanta, auckland, avignon, baghdad, baku, baltimore, bamako, bangalore,
bangkok, bangui, banjul, barcelona, basel, beijing, beirut, belfast, belgrade, bengaluru, berlin,
bern, bilbao, birmingham, bishkek, bogotá, bologna, bombay, bonn, bordeaux, boston, brasília,
bratislava, brazzaville, bremen, brisbane, bristol, brussels, bucharest, budapest, buenos aires,
bujumbura, calcutta, calgary, canberra, canterbury, caracas, cardiff, casablanca, charleston,
chengdu, chennai, chicago, chittagong, chongqing, christchurch, cincinnati, cleveland, cologne,
colombo, conakry, constantinople, copenhagen, cordoba, cork, crocus city hall, d.c., dakar, dallas,
damascus, dar es salaam, darwin, davos, delhi, denver, derna, detroit, dhaka, dijon, dnipro, doha,
donetsk, dresden, dubai, dublin, durban, dushanbe, düsseldorf, edinburgh, edmonton, erbil,
faisalabad, fallujah, florence, frankfurt, freetown, fukushima, gaborone, gaza city, gdansk,
geneva, genoa, georgetown, ghent, glasgow, goma, gothenburg, granada, guadalajara, guangzhou,
guatemala city, haifa, halifax, hamburg, hamilton, hanoi, harare, havana, helsinki, herat,
hiroshima, ho chi minh city, homs, honolulu, houston, hyderabad, incheon, innsbruck, islamabad,
istanbul, izmir, jaipur, jakarta, jalalabad, jeddah, jenin, jerusalem, johannesburg, juba, kabul,
kampala, kandahar, kano, karachi, kathmandu, kazan, kharkiv, khartoum, kherson, kiev, kigali,
kingston, kinshasa, kobani, kolkata, krakow, kraków, kuala lumpur, kunduz, kuwait city, kyiv,
kyoto, la paz, lagos, lahore, lausanne, leeds, leicester, leipzig, leningrad, lhasa, libreville,
lille, lilongwe, lima, limoges, lisbon, liverpool, ljubljana, lomé, london, los angeles, luanda,
lucknow, lusaka, lviv, lyon, lyons, madras, madrid, malé, managua, manama, manaus, manchester,
mandalay, manila, maputo, mariupol, marrakech, marseille, mashhad, mazar-i-sharif, mecca, medellín,
medina, melbourne, memphis, mexico city, miami, milan, milwaukee, minneapolis, minsk, mogadishu,
mombasa, monrovia, monterrey, montevideo, montpellier, montreal, moscow, mosul, multan, mumbai,
munich, n'djamena, nablus, nagasaki, nagoya, nairobi, nanjing, nantes, naples, nashville, nassau,
naypyidaw, new delhi, new orleans, new rochelle, new york, new york city, newcastle, niamey,
nicosia, nottingham, nouakchott, novosibirsk, nuremberg, odesa, odessa, oran, osaka, osh, oslo,
ottawa, ouagadougou, oxford, palermo, palmyra, panama city, paramaribo, paris, peking, perth,
peshawar, philadelphia, phnom penh, phoenix, pittsburgh, plymouth, pokrovsk, port sudan,
port-au-prince, portland, porto, potsdam, prague, praia, pretoria, pristina, pyongyang, qom, quebec
city, quetta, quito, rabat, rafah, ramallah, raqqa, rawalpindi, recife, reykjavik, riga, rio de
janeiro, riyadh, rome, rostov, rotterdam, rouen, sacramento, salzburg, samarkand, san diego, san
francisco, san josé, san juan, san salvador, sanaa, santiago, santo domingo, sarajevo, seattle,
seoul, seville, shanghai, sheffield, shenzhen, skopje, sochi, sofia, southampton, srebrenica,
srinagar, st petersburg, st. louis, st. petersburg, stockholm, strasbourg, stuttgart, surat, suva,
sydney, são paulo, tabriz, taipei, tallinn, tampa, tampico, tashkent, tbilisi, tegucigalpa, tehran,
tel aviv, the hague, thessaloniki, tianjin, tijuana, timbuktu, tirana, tokyo, torkham, toronto,
toulouse, tripoli, troy, tunis, turin, ulaanbaatar, utrecht, valencia, valletta, vancouver, venice,
versailles, vicksburg, victoria, vienna, vientiane, vilnius, vladivostok, volgograd, warsaw,
washington, washington d.c., washington dc, wellington, westminster, wichita, windhoek, winnipeg,
wuhan, xian, yamoussoukro, yangon, yaoundé, yerevan, yokohama, york, zagreb, zanzibar,
zaporizhzhia, zurich, zürich
""")

PLACES = COUNTRIES | REGIONS | CITIES

PLACE_WORDS = _names("""
airport, archipelago, avenue, basin, bay, beach, borough, bridge, canal, canyon, cape, castle,
cathedral, channel, city, coast, colony, corridor, county, creek, crossing, delta, desert,
district, empire, estuary, falls, forest, fort, gate, glacier, gulf, harbor, harbour, heights, hill,
hills, island, islands, isle, isles, isthmus, kingdom, lake, lakes, mount, mountain, mountains,
neighborhood, neighbourhood, oblast, ocean, palace, park, pass, peninsula, plain, plains, plateau,
port, prefecture, prison, province, provinces, region, republic, reservoir, ridge, river, road,
sea, shore, square, stadium, state, station, strait, straits, street, suburb, temple, territories,
territory, town, township, tunnel, valley, village, volcano, woods
""")

PLACE_FIRST_WORDS = _names("""
bay, camp, cape, el, fort, gulf, isle, lake, las, los, mont, monte, mount, mt, mt., port, puerto,
rio, river, saint-denis, san, santa, sierra, strait, são, tel, villa
""")

ORGANISATION_WORDS = _names("""
ab, academy, administration, ag, agency, airlines, airways, alliance, army, assembly, associates,
association, authority, bank, battalion, board, brigade, broadcasting, brothers, bureau, bv,
cabinet, caucus, center, centre, chamber, church, club, co, coalition, college, command,
commission, commissioners, committee, committees, community, companies, company, confederacy,
confederation, conference, congress, consortium, corp, corp., corporation, corps, council, court,
courts, democrats, department, directorate, division, emirate, entertainment, exchange, executive,
faculty, federation, firm, force, forces, forum, foundation, front, fund, gazette, gmbh,
government, group, groups, guard, guards, guild, herald, holdings, hospital, inc, inc., industries,
initiative, institute, institution, intelligence, international, journal, kg, laboratories,
laboratory, league, legion, liberals, llc, llp, ltd, ltd., media, militia, ministry, mission,
monitor, mosque, movement, museum, navy, network, networks, news, nv, observatory, office,
organisation, organization, parliament, partners, party, patrol, plc, police, post, press, radio,
reform, regiment, republicans, reserve, review, sa, school, secretariat, senate, service, services,
society, spa, staff, studios, syndicate, taskforce, team, telecom, telegraph, television, times,
treasury, tribunal, trust, union, united, university, watch, works
""")

ORGANISATIONS = _names("""
afp, african union, al jazeera, al qaeda, al-jazeera, al-nusra, al-qaeda, al-qaida, al-shabaab,
allies, amazon, amnesty, apple, arab league, asean, associated press, bbc, boeing, boko haram,
capitol, cia, cnn, court of justice, daesh, downing street, duma, eu, european commission, european
council, european parliament, european union, eurostat, facebook, fatah, fbi, federal reserve,
foreign office, gazprom, general assembly, google, greenpeace, hamas, haqqani, hezbollah,
hizbollah, house of commons, house of lords, house of representatives, houthis, huthis, iaea, icc,
icj, imf, interpol, is-k, isil, isis, isis-k, islamic emirate, islamic jihad, islamic state,
islamic state khorasan, islamic state khorasan province, knesset, kremlin, meta, microsoft, mossad,
nasa, nato, netflix, opec, osce, pentagon, red crescent, red cross, reuters, rosneft, samsung,
security council, shabaab, soviets, state duma, supreme court, taliban, tesla, toyota, treasury,
twitter, un, unesco, unicef, united nations, viet cong, volkswagen, wagner, white house, whitehall,
world bank, wto, xinhua
""")

PEOPLES = _names("""
afghan, african, albanian, algerian, american, anglo-saxon, arab, arabian, argentine, armenian,
asian, assyrian, australian, austrian, azerbaijani, azeri, babylonian, bavarian, belarusian,
belgian, bengali, berber, bolivian, bolshevik, bosnian, brazilian, breton, british, briton,
bulgarian, burmese, byzantine, calvinist, cambodian, canadian, catalan, catholic, celt, chechen,
chilean, chinese, christian, colombian, communist, congolese, conservative, copt, cossack, croat,
croatian, crusader, cuban, cypriot, czech, dane, danish, democrat, druze, dutch, egyptian, emirati,
english, ethiopian, european, filipino, finn, finnish, fleming, flemish, frank, frankish, french,
gaul, georgian, german, germanic, ghanaian, greek, hazara, hindu, huguenot, hun, hungarian,
icelandic, igbo, indian, indonesian, iranian, iraqi, irish, islamist, israeli, israelite, italian,
jamaican, japanese, jew, jewish, jihadist, jordanian, kazakh, kenyan, korean, kosovan, kurd,
kurdish, kuwaiti, kyrgyz, lebanese, libyan, lithuanian, lombard, lutheran, malay, malaysian,
mexican, mongol, mongolian, moor, moroccan, muslim, native, nazi, nepali, nigerian, nordic, norman,
norse, norwegian, oromo, ottoman, pakistani, palestinian, pashtun, persian, peruvian, phoenician,
pole, polish, portuguese, protestant, prussian, punjabi, puritan, republican, rohingya, roman,
romanian, russian, rwandan, saudi, saxon, scandinavian, scot, scottish, serb, serbian, shia,
shiite, sikh, slav, slavic, slovak, slovene, somali, soviet, spaniard, spanish, sudanese, sunni,
swede, swedish, swiss, syrian, taiwanese, tajik, tamil, tatar, thai, tibetan, tigrayan, tunisian,
turk, turkish, turkmen, tutsi, ugandan, uighur, ukrainian, uyghur, uzbek, vandal, venezuelan,
vietnamese, viking, visigoth, welsh, yazidi, yemeni, yoruba, zionist, zulu
""")

# Acronyms that name no organisation.
NO_ORGANISATION = _names("""
ad, aids, am, bbl, bc, bce, ce, ceo, cfo, covid, dna, dr, faq, gdp, gmt, gps, hiv, html, http, id,
ied, ii, iii, iv, ix, mp, mph, mps, mr, mrs, ms, ngo, ngos, ok, op, pdf, phd, pm, rna, sms, st, tv,
ufo, usd, utc, vat, vi, vii, viii, vip, ww, wwi, wwii, xi, xii, xiii, xiv, xv, xvi, xviii
""")

TITLES = _names("""
abbot, admiral, ambassador, archbishop, ayatollah, baron, baroness, bishop, brigadier, brother,
caliph, captain, cardinal, chairman, chairwoman, chancellor, chief, colonel, commander,
commissioner, congressman, congresswoman, constable, corporal, count, countess, crown, czar, dame,
deputy, detective, director, doctor, dr, dr., duchess, duke, earl, emir, emperor, empress, envoy,
foreign, gen, gen., general, gov., governor, governor-general, grand, imam, inspector, judge,
justice, kaiser, khan, king, lady, lieutenant, lord, lt, lt., maj., major, marquess, marquis,
marshal, mayor, minister, miss, monsieur, mr, mr., mrs, mrs., ms, ms., mufti, mullah, officer,
pastor, pharaoh, pope, premier, president, prime, prince, princess, prof, prof., professor,
prosecutor, queen, rabbi, rep., representative, rev, rev., reverend, saint, sec., secretary,
secretary-general, sen., senator, sergeant, sgt., shah, sheikh, sheriff, sir, spokesman,
spokesperson, spokeswoman, sultan, superintendent, tsar, vice, vice-president, viscount, warlord
""")

# Words of an office that may stand in small letters before or after a name.
ROLES = TITLES | _names("""
activist, actor, actress, adviser, advisor, aide, ally, analyst, artist, astronaut, attorney,
author, boss, candidate, captive, ceo, chair, co-founder, coach, columnist, composer, cousin,
daughter, defender, diplomat, economist, editor, engineer, expert, explorer, father, fiancé,
fiancée, founder, founding, grandfather, grandson, head, heir, historian, husband, inventor,
journalist, lawmaker, lawyer, leader, mathematician, merchant, missionary, monk, mother,
negotiator, nephew, niece, novelist, official, philosopher, physician, physicist, player, poet,
politician, preacher, priest, reformer, reporter, researcher, rival, ruler, scholar, scientist,
singer, sister, son, strategist, striker, suspect, teacher, theologian, uncle, victim, widow, wife,
winner, writer
""")

# Ordinary words and adjectives that are written with a capital but name no person by themselves.
ORDINARY = _names("""
act, acts, age, agreement, ancient, april, article, atlantic, august, award, banco, banque, battle,
bible, bill, book, british, capital, case, central, century, chapter, charter, chief, children,
christian, christianity, christmas, church, city, civil, code, cold, company, complex, congress,
constitution, convention, country, coup, crisis, cup, dark, day, december, declaration, deep,
directive, directives, doha, double, duchy, dynasty, early, earth, east, easter, eastern, economic,
edict, eid, electorate, english, european, executive, february, federal, first, foreign, former,
fort, freedom, french, frente, friday, games, general, german, god, golden, grand, great, greek,
high, holy, house, human, independent, index, international, islam, january, jewish, july, june,
late, latin, launch, law, laws, list, low, lower, march, massacre, may, medieval, member, members,
men, middle, military, minister, modern, monday, moon, muslim, national, new, nobel, north,
northern, november, october, old, olympic, olympics, operation, order, pact, parliament, partido,
plan, policy, political, presidential, prize, protestant, public, ramadan, reform, reformation,
regulation, regulations, renaissance, report, resolution, revolution, right, rights, roman, royal,
russian, saturday, second, section, september, seven, shock, siege, social, south, southern,
soviet, spanish, special, state, sun, sunday, super, supreme, tax, test, third, three, thursday,
today, tomorrow, tour, treaty, truck, tuesday, two, universidad, université, upper, war, wars,
wednesday, west, western, white, wikipedia, women, world, years, yesterday
""")

# Words that begin a sentence, or stand before a name there, without being part of it.
FUNCTION_WORDS = _names("""
a, about, above, according, across, added, after, again, against, all, along, already, also,
although, among, an, analysts, and, another, any, anybody, anyone, anything, are, around, as,
asked, at, back, because, before, behind, being, below, beside, besides, between, born, both, but,
by, called, can, citing, consequently, could, currently, despite, did, do, does, down, due, during,
each, earlier, either, even, eventually, every, everybody, everyone, everything, experts, few,
finally, five, following, for, four, from, further, furthermore, given, had, has, have, he, hence,
her, here, his, how, however, i, if, in, including, indeed, initially, inside, instead, into, is,
it, its, last, later, led, less, like, many, meanwhile, more, moreover, most, much, my, named,
near, nearly, neither, nevertheless, no, nobody, none, nor, not, nothing, now, of, off, officials,
often, on, once, one, only, opposition, or, other, others, our, out, over, overall, people, per,
perhaps, recently, researchers, residents, scientists, several, she, similarly, since, six, so,
some, somebody, someone, something, soon, speaking, still, such, ten, than, that, the, their, them,
then, there, therefore, these, they, this, those, though, through, throughout, thus, till, to,
today, together, tonight, toward, towards, twice, under, unlike, until, up, upon, using, was, we,
were, what, when, where, whereas, whether, which, while, who, whom, whose, why, will, with, within,
without, witnesses, would, yes, yesterday, yet, you, your
""")

GIVEN_NAMES = _names("""
aaron, abbas, abdul, abdullah, abdulrahman, abiy, abraham, abu, adam, adolf, adrian, ahmad, ahmed,
aisha, akbar, akira, alain, alan, albert, alberto, alejandro, alex, alexander, alexandra, alexei,
alexey, alfonso, alfred, ali, alice, alison, amanda, amin, amina, amir, ana, anastasia, anders,
andre, andrea, andreas, andrei, andrew, andrey, andrii, andriy, andrzej, andy, angela, ann, anna,
anne, annie, anthony, antoine, anton, antonio, antony, antónio, anwar, arjun, arnold, arthur, arun,
ashraf, asif, asim, augustus, barack, barbara, bashar, ben, benedict, benjamin, bernard, bernie,
bilal, bill, bob, boris, brad, brian, bruce, carl, carlo, carlos, carmen, carol, caroline,
catherine, charles, charlie, charlotte, chen, chris, christian, christina, christine, christoph,
christopher, claire, clara, claude, claudia, colin, craig, cyril, cyrus, daniel, daniela, darius,
david, deborah, deng, denis, dennis, diana, diane, diego, dietrich, dimitri, dmitri, dmitry,
dominic, don, donald, donna, doris, dorothy, douglas, ebrahim, edgar, edmund, eduardo, edward,
edwin, eleanor, elena, eli, elias, elisabeth, elizabeth, ellen, elon, emily, emma, emmanuel,
emmerson, enrique, eric, erik, ernest, ernst, esther, eugene, eva, eve, evelyn, farid, fatima,
felix, ferdinand, fernando, fidel, fiona, florence, frances, francesco, francis, francisco,
francois, frank, franklin, franz, françois, fred, frederick, friedrich, fumio, fyodor, gabriel,
gary, gavin, geoffrey, georg, george, georges, gerald, gerard, gerhard, giorgia, giovanni,
giuseppe, gordon, grace, graham, greg, gregory, guido, guillaume, gustav, hamid, hans, harold,
harriet, harry, hasan, hassan, heather, hector, heinrich, helen, helmut, henri, henry, herbert,
herman, hermann, hillary, hiroshi, howard, hu, hubert, hugh, hugo, hussein, ian, ibrahim, igor,
ilham, ilya, imran, indira, ingrid, irene, isaac, isabel, isabella, ismail, ivan, jack, jackie,
jacob, jacques, jair, jake, jakob, james, jamie, jan, jane, janet, jason, jawaharlal, jay, jean,
jeff, jeffrey, jennifer, jenny, jens, jeremy, jerome, jerry, jesse, jessica, jesus, jiang, jim,
jimmy, joan, joe, joel, johan, johann, johannes, john, johnny, jon, jonas, jonathan, jorge, jose,
josef, joseph, joshua, josé, juan, judith, julia, julian, julie, julius, justin, kaja, kamala,
karen, karim, karl, kate, katherine, kathleen, katrina, kaveh, keir, keith, kelly, ken, kenneth,
kevin, khalid, khalil, kim, klaus, kofi, konstantin, kumar, kwame, larry, lars, laszlo, laura,
laurent, lawrence, leo, leon, leonard, leonid, leopold, leslie, lewis, li, liam, linda, lionel,
lisa, liu, liz, lloyd, lorenzo, louis, louise, lucas, lucy, ludwig, luis, luiz, luke, lydia,
madeleine, magnus, mahmood, mahmoud, malala, malcolm, manuel, mao, marc, marcel, marco, marcus,
margaret, maria, mariam, marie, marina, marine, mario, marion, mark, martha, martin, mary, maryam,
mathieu, matteo, matthew, matthias, maurice, max, maxim, megan, mehdi, mehmet, melissa, michael,
michel, michelle, miguel, mike, mikhail, milan, mirza, mitch, mohamed, mohammad, mohammed,
mohandas, mohsen, moise, monica, moses, muammar, muhammad, muhammadu, mustafa, nadia, nana, nancy,
narendra, nasser, natalia, nathan, neil, nelson, nguyen, nicholas, nick, nicola, nicolas, nicole,
nigel, nikita, nikol, nikolai, noah, noel, nora, norman, nuri, olaf, oleg, oleksandr, olga, oliver,
olivia, olof, omar, osama, oscar, otto, pablo, pamela, patricia, patrick, paul, paula, pavel,
pedro, penny, pervez, peter, petr, petro, phil, philip, philippe, pierre, pieter, piotr, qasem,
rachel, rafael, rahul, raj, ralph, ramzan, rashid, raymond, rebecca, recep, reza, ricardo, richard,
rishi, rita, robert, roberto, robin, rodrigo, rodrigue, roger, roland, ron, ronald, rosa, ross,
roy, rudolf, rupert, russell, ruth, ryan, saad, saddam, sadyr, saeed, salim, salman, salvador, sam,
samantha, samir, samuel, sandra, sanjay, sara, sarah, scott, sean, sebastian, serge, sergei,
sergey, sergio, sergiy, shane, sharon, shehbaz, shinzo, shirin, sigmund, silvio, simon, sofia,
sonia, sophia, sophie, stacey, stanley, stefan, stella, stephan, stephanie, stephen, steve, steven,
stuart, sue, suleiman, sun, susan, svetlana, sylvia, tamim, tanya, tariq, tayyip, ted, teresa,
terry, thabo, theodore, theresa, thomas, tim, timothy, todd, tom, tomas, tony, tracy, tsai, uhuru,
ulrich, umar, ursula, usman, valentina, valery, vasily, vera, victor, vikram, viktor, vincent,
virgil, vitali, vladimir, volker, volodymyr, walter, wang, warren, wayne, wendy, werner, wilhelm,
will, william, winston, wolfgang, xi, yahya, yasser, yevgeny, yitzhak, yoko, yoshihide, yuri,
yusuf, yuval, yves, zalmay, zbigniew, zhang, zhao, zhou, zoe, zohran
""")

# Words after a name that only a person, or someone spoken of as one, does.
PERSON_VERBS = _names("""
accused, acknowledged, added, admitted, advised, agreed, announced, answered, apologised,
apologized, appealed, argued, arrived, asked, asserted, assured, became, began, believed, born,
claimed, commented, complained, conceded, concluded, condemned, confirmed, criticised, criticized,
declared, declined, demanded, denied, denounced, described, died, discovered, dismissed,
emphasised, emphasized, estimated, expected, explained, expressed, feared, founded, hailed,
herself, himself, hoped, insisted, invented, invited, joined, knew, lamented, launched, led,
married, met, moved, noted, observed, ordered, pledged, pointed, praised, predicted, proclaimed,
promised, proposed, quipped, recalled, refused, rejected, remarked, repeated, replied, reported,
resigned, responded, returned, revealed, ruled, said, saw, says, sent, signed, spoke, stated,
stressed, studied, succeeded, suggested, testified, thanked, thinks, thought, told, took, tweeted,
urged, visited, vowed, wanted, warned, warns, went, won, writes, wrote
""")
