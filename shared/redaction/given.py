"""Given names that are hardly ever a word of their own, from many languages: a name beside one is probably a person's.

Left out on purpose: names that are words, months, places or makes as well (Will, Mark, May, Grace, Paris, Ford).
"""

from __future__ import annotations

GIVEN = frozenset(
    """
    aaron abdul abdullah abena abigail abiodun abioye achieng adaeze adam adebayo adele adesola adrian adriana
    adunni agnes agnieszka ahmad ahmed aidan aisha akira akosua alan alba albert alberto alejandra alejandro
    aleksandar alessandro alex alexander alexandra alexis alfred ali alice alicia alison allison amanda amara amelia
    amina aminata amir amira amit amy ana anastasia anders andrea andreas andrew andrzej angela angelica anil anita
    anja anjali ann anna anne annette annie ansel anthony antoine anton antonio anya aoife arash archana arjan arjun
    arkadiusz arnold arthur arturo arvid ashley ashok asif aslan astou astrid atsuko audrey aurelio ayesha ayodele
    azadeh babajide bahram balazs balint barbara bartosz beatrice beatriz behrouz ben benedict benjamin bernard
    bernd beth betty bianca bilal bjorn björn bob bogdan bohdan bongani boris borislav boubacar brad brandon
    branislav brenda brendan brian bridget bronisław bruce bruno bryan bukola camila camille carl carla carlos
    carmen carol carolina caroline carolyn catarina catherine cathy cecilia cedric charles charlie charlotte chen
    chiara chidi chidinma chike chimamanda chinedu chinonso chloe chloé chris christian christina christine
    christopher chukwuemeka ciaran cindy citlali claire clara claudia claudio colin connor constantin cosmin
    cristina csaba curtis cynthia czesław céline dagmar dagny daisy damir dan daniel daniela daniele danielle danuta
    darius dariusz dave david deborah declan deepak deepika dejan denise deniz dennis derek diana diane diego dieter
    dimitra dimitri dimitrios dinesh divya dmitri dominic dominik donald donna doris dorota dorothy doug douglas
    dragan dušan dylan ebere ebru ed eduardo edward edwin efua eileen eitan elaine eleanor eleftheria elena eleni
    elif elisabeth elizabeth ella ellen elsa elżbieta emeka emil emily emine emma emmanuel emre enikő enrique eric
    erica erik erika erin ernst erzsébet esther eszter ethan eugene eva evelyn evgeny eyal fabian fabio fadi farah
    farid farida faridah fatima fatma federico feliks felipe felix femi ferenc fernanda fernando finn fiona firoz
    florian folake frances francesca francesco francis francisca francisco frank franz françois fred frederick
    friedrich fumiko funmilayo gabor gabriel gabriela ganesh gareth gary gavin gemma geoff geoffrey george georgia
    gerald gerhard gintaras giorgos giovanni giulia giuseppe gloria goran gordon graciela grażyna greg gregory
    grzegorz gudrun guillaume guillermo gunnar gustavo györgy gáspár gökhan hadiya halina hamza hannah hans harald
    harold harriet harry haruki haruto hasan hassan hatice heather hector heidi heinrich heinz helen helena helga
    henri henrik henry hideo hiroko hiroshi holger howard hristo huda hugh hugo hussein ian ibrahim ifeoma ignacio
    ignatius igor ikram ilona ilse imran imre indira ines ingrid ioana ioannis irene ireneusz irina iryna isaac
    isabel isabella isabelle isao ismail istván itzel ivan ivana iwona izabela jack jackie jacob jacqueline jacques
    jagoda jakob jakub jamal james jamie jan jana jane janet janice janusz jaroslav jason jaswinder javad javier jay
    jean jeff jeffrey jelena jen jennifer jenny jens jeremy jerome jerzy jessica jiho jihoon jill jim jiří joan
    joanna joanne joao joaquín jochen joe joel johan johann johanna john johnny jolanta jonas jonathan jorge jose
    josef joseph joshua josé jovana joyce jozef joão juan juana judith judy julia julian juliana julie julien jun
    junko justin jürgen kaito kalpana kamal kamala karen karim karin karl karolina katarina kate kateryna katharina
    katherine kathleen kathryn kathy katie katrin kavita kavitha kayode kazimierz keiko keith kelly ken kenji
    kenneth kerstin kevin khadija khalid khanh kieran kim kimberly klaus kofi konstantinos kostas krishna kristen
    kristina krzysztof kurt kwabena kwame kwasi kyle lachlan lakshmi lars laszlo latifa laura lauren laurent layla
    leah leila lena leo leon leonard leonardo leroy leszek leticia liam liesel lin linda linh lisa ljubica lois
    lorenzo louis louise lubomir luc luca lucas lucia lucie lucjan lucy ludmila luigi luis luisa luka lukas lukasz
    lwazi lydia lynn maciej madison magda magdalena mahmoud maja makoto malcolm malgorzata malik mandla manfred
    manoj manuel manuela marc marcel marcello marcia marco marcos marcus marek margaret margarita maria mariam
    mariana marie mariko marina mario marion marisol marjorie markus marta martha martin martina mary maryam maryna
    masako masashi mateo mateusz mathieu mathilde matteo matthew matthias maureen maurice max maximilian maya
    małgorzata mbali meera megan mehdi mehmet mei melanie melissa mercedes meseret michael michal michele michelle
    miguel mikael mike mikhail milan milica milos miloš mina ming minh miriam miroslav mirosław mitsuko modupe
    mohamed mohammad mohammed mohan mohsen moira monica monika moritz muhammad mukesh murat mustafa mwangi myriam
    nadezhda nadia nadine nancy naoko naomi nasrin natalia natalie natasha nathan navneet neema neeraj neha neil
    ngoc ngozi nguyễn nicholas nick nicola nicolas nicole niels nigel nikhil nikolai nikolaos nina nisha nithya
    njeri nnamdi noah nobuhle noel nomvula nora norma norman nthabiseng nuno obinna oksana olabisi olaf olena olga
    oliver olivia olivier oluwaseun omar orsolya osamu oscar oskar otto pablo padma paige pamela panagiotis paola
    paolo parisa parvati patricia patrick paul paula paulina pauline paulo pavel pedro peggy petar peter petra
    philip philippe phillip phyllis pierre pietro pilar piotr piroska polina pooja pradeep prakash preeti priscila
    priya przemysław quynh rachel radka radosław rafael rahul raj rajesh rajiv rakesh ralph ramesh ramon ramona
    randall raphael rashid rashida ratko raul ravi raymond rebecca reinhard renata rené ricardo riccardo richard
    rita robert roberta roberto rodrigo roger rohini roland rolf ronald rosa rosalind rosemary ross rowan roxana
    roxanne roy ruben rudolf rui ruslan russell ruth ryan ryszard saanvi sabine sabrina sadia saeed sakura sally
    salma salvatore sam samantha samir samuel sandeep sandra sanja sanjay santiago santosh sara sarah satish satoshi
    scott seamus sean sebastian selim serena serge sergei sergio serhiy seung shabnam shankar shannon shanthi sharon
    shaun sheila shinji shirin shirley shreya sibusiso siddharth sigrid silvia simon simona simone sinead siobhan
    sipho slavica snežana sofia sofie soledad sonia sonja sophia sophie soren srinivas stanislav stanisław stefan
    stefania stefano stella stephanie stephen steve steven stoyan stuart sunil sunita suresh susan susanna susanne
    suzanne sven svetlana svitlana swati sylvia sławomir tadeusz taiwo takashi takumi tamara tamás tanya tapiwa
    taras tariq tatiana tatyana ted temitope tendai teodora terence teresa thabo thandiwe thanh themba theo theodore
    theresa thierry thomas thulani tiffany tihomir tim timothy tina tobias todd tom tomas tomasz tommaso tomoko tony
    toshiko tracy trevor tristan tuan tunde tyler uchenna ulrich ulrike ursula usha uwe vaclav valentina valentyna
    valeria valerie vanessa vasile vasyl venkatesh vera veronica veronika vesna vicente victor victoria vijay vikram
    viktor viktoriya vincent vincenzo violeta virginia vishal vivian vlad vladimir vladislav volodymyr vusi walter
    wambui wanda wanjiru wayne wei wendy werner wiesław wilhelm william witold wojciech wolfgang xavier yael yannis
    yasmin yasmine yaw yetunde yevgeny yewande yoko yolanda yolande yordan yosef yoshiko youssef yuki yuriy yusuf
    yves yvonne zachary zahra zainab zbigniew zdeněk zenon zeynep zlatko zoe zofia zoltán zoran zoé zsofia zuzana
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
