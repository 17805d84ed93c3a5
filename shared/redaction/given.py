"""Given names that are hardly ever a word of their own, from many languages: a name beside one is probably a person's.

Left out on purpose: names that are words, months, places or makes as well (Will, Mark, May, Grace, Paris, Ford).
"""

from __future__ import annotations

GIVEN = frozenset(
    """
    aaron abdul abdullah abigail adam adele adrian adriana agnes agnieszka ahmad ahmed aidan aisha akira alan alba
    albert alberto alejandra alejandro aleksandar alessandro alex alexander alexandra alexis alfred ali alice alicia
    alison allison amanda amelia amina amir amira amit amy ana anastasia anders andrea andreas andrew andrzej angela
    angelica anil anita anja ann anna anne annette annie anthony antoine anton antonio anya aoife arjun arnold
    arthur arturo ashley astrid audrey ayesha barbara beatrice beatriz ben benedict benjamin bernard bernd beth
    betty bianca bjorn björn bob boris brad brandon brenda brendan brian bridget bruce bruno bryan camila camille
    carl carla carlos carmen carol carolina caroline carolyn catherine cathy cecilia cedric céline charles charlie
    charlotte chen chiara chloe chloé chris christian christina christine christopher ciaran cindy claire clara
    claudia claudio colin connor constantin cristina curtis cynthia daisy dan daniel daniela daniele danielle dave
    david deborah declan deepak deepika denise dennis derek diana diane diego dieter dimitri dmitri dominic dominik
    donald donna doris dorothy doug douglas dylan ed eduardo edward edwin eileen elaine eleanor elena eleni elif
    elisabeth elizabeth ella ellen elena elsa emil emily emma emmanuel enrique eric erica erik erika erin ernst
    esther ethan eugene eva evelyn fabian fabio farah fatima fatma federico felipe felix femi fernanda fernando finn
    fiona florian frances francesca francesco francis francisco françois frank franz fred frederick friedrich
    gabriel gabriela gareth gary gavin gemma geoff geoffrey george georgia gerald gerhard giovanni giulia giuseppe
    gloria gordon grzegorz greg gregory guillaume guillermo gustavo hannah hans harald harold harriet harry haruto
    hassan hasan heather hector heidi heinrich heinz helen helena helga henri henrik henry hiroshi holger howard
    hugh hugo hussein ian ibrahim ignacio igor ilse imran ines ingrid irene irina isaac isabel isabella isabelle
    ismail ivan jack jackie jacob jacqueline jacques jakob jakub james jamie jan jane janet janice jason javier jay
    jean jeff jeffrey jen jennifer jenny jens jeremy jerome jessica jill jim joan joanna joanne joao joão jochen joe
    joel johan johann johanna john johnny jonas jonathan jorge jose josé josef joseph joshua joyce juan juana judith
    judy julia julian juliana julie julien jun jürgen justin kaito karen karim karin karl karolina katarina kate
    katharina katherine kathleen kathryn kathy katie katrin kavita keiko keith kelly ken kenji kenneth kevin khalid
    kieran kim kimberly klaus krishna kristen kristina krzysztof kurt kwame kyle lakshmi lars laura lauren laurent
    layla leah leila lena leo leon leonard leonardo leroy leticia liam lin linda lisa lois lorenzo louis louise luc
    luca lucas lucia lucie lucy luigi luis luisa luka lukas lukasz lydia lynn maciej madison magdalena mahmoud maja
    malcolm malik manfred manuel manuela marc marcel marcello marcia marco marcos marcus margaret margarita maria
    mariam mariana marie marina mario marion marjorie markus marta martha martin martina mary maryam masashi mateo
    mateusz mathieu mathilde matteo matthew matthias maureen maurice max maximilian maya megan mehmet mei melanie
    melissa mercedes michael michal michele michelle miguel mikael mike mikhail milan mina ming miriam mohamed
    mohammad mohammed mohan moira monica monika moritz muhammad mustafa myriam nadia nadine nancy naomi natalia
    natalie natasha nathan neha neil nicholas nick nicola nicolas nicole niels nigel nikhil nikolai nina nisha noah
    noel nora norma norman nuno olaf olena olga oliver olivia olivier omar oscar oskar otto pablo paige pamela paola
    paolo patricia patrick paul paula paulina pauline paulo pavel pedro peggy peter petra philip philippe phillip
    phyllis pierre pietro pilar piotr pooja priya rachel rafael rahul raj rajesh ralph ramesh ramon randall raphael
    rashid raul ravi raymond rebecca reinhard renata rené ricardo riccardo richard rita robert roberta roberto
    rodrigo roger roland rolf ronald rosa rosemary ross roxanne rowan roy ruben rudolf rui russell ruth ryan sabine
    sabrina saeed sally salma salvatore sam samantha samir samuel sandra sandeep sanjay santiago sara sarah satoshi
    scott sean sebastian seamus serena serge sergei sergio shannon sharon shaun sheila shirley shreya siddharth
    sigrid silvia simon simona simone siobhan sofia sofie sonia sonja sophia sophie soren stanislav stefan stefania
    stefano stella stephanie stephen steve steven stuart sunil sunita susan susanna susanne suzanne sven svetlana
    sylvia takashi tamara tanya tariq tatiana ted teresa terence thabo theo theodore theresa thierry thomas tiffany
    tim timothy tina tobias todd tom tomas tomasz tommaso tony tracy trevor tristan tyler ulrich ulrike ursula uwe
    valentina valeria valerie vanessa vera veronica veronika vicente victor victoria vijay vikram vincent vincenzo
    virginia vivian vladimir walter wanda wayne wei wendy werner wilhelm william wolfgang xavier yasmin yasmine
    yolanda yuki yusuf yves yvonne zachary zainab zoe zoé zofia
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
