"""Values of scikit-learn and SciPy that tasks/metrics.rs is held to.

    pip install scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
    python tasks/metrics/fixtures.py DATA/glue/CoLA/dev.tsv.gz > tasks/metrics/fixtures.json

A value that these give as NaN is null here: of a constant input SciPy's pearsonr and spearmanr give NaN with a
ConstantInputWarning and kendalltau NaN without one; f1_score gives 0 with an UndefinedMetricWarning, matthews_corrcoef 0.
"""

import gzip
import json
import math
import sys
import warnings

import numpy
import scipy
import scipy.stats
import sklearn
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

warnings.simplefilter("ignore")


def number(x):
    return None if math.isnan(x) else float(x)


def classes(name, answers, wanted):
    answers, wanted = ([int(c) for c in row] for row in (answers, wanted))
    return {
        "name": name, "answers": answers, "wanted": wanted,
        "accuracy": number(accuracy_score(wanted, answers)),
        "f1": number(f1_score([c == 1 for c in wanted], [c == 1 for c in answers])),
        "matthews": number(matthews_corrcoef(wanted, answers)),
    }


def values(name, answers, wanted):
    answers, wanted = ([float(v) for v in row] for row in (answers, wanted))
    return {
        "name": name, "answers": answers, "wanted": wanted,
        "pearson": number(scipy.stats.pearsonr(answers, wanted).statistic),
        "spearman": number(scipy.stats.spearmanr(answers, wanted).statistic),
        "kendall": number(scipy.stats.kendalltau(answers, wanted, variant="b").statistic),
    }


rng = numpy.random.default_rng(6)
with gzip.open(sys.argv[1], "rt") as file:
    cola = numpy.array([int(line.split("\t")[1]) for line in file])
flipped = numpy.where(rng.random(cola.size) < 0.2, 1 - cola, cola)
three = rng.integers(0, 3, 200)
stsb = numpy.round(rng.random(1500) * 25) / 5
noisy = numpy.round(stsb + rng.normal(0, 0.8, 1500), 2)
steps = rng.integers(0, 4, 60), rng.integers(0, 4, 60)

json.dump({
    "made_by": "tasks/metrics/fixtures.py",
    "versions": {"scikit-learn": sklearn.__version__, "scipy": scipy.__version__, "numpy": numpy.__version__},
    "classes": [
        classes("two, right", [0, 1], [0, 1]),
        classes("two, wrong", [1, 0], [0, 1]),
        classes("by hand", [1, 1, 0, 0, 1, 0, 1], [1, 0, 0, 1, 1, 0, 1]),
        classes("constant prediction 1", [1] * 6, [0, 1, 1, 0, 1, 1]),
        classes("constant prediction 0", [0] * 6, [0, 1, 1, 0, 1, 1]),
        classes("one class, all right", [1] * 5, [1] * 5),
        classes("one class 0, all right", [0] * 5, [0] * 5),
        classes("one class, some wrong", [1, 0, 1, 1, 0], [1] * 5),
        classes("random", rng.integers(0, 2, 101), rng.integers(0, 2, 101)),
        classes("three classes", numpy.where(rng.random(200) < 0.4, rng.integers(0, 3, 200), three), three),
        classes("three classes, one never answered", [0, 2, 0, 2, 2, 0], [0, 1, 2, 2, 1, 0]),
        classes("CoLA dev, a fifth turned", flipped, cola),
        classes("CoLA dev, all acceptable", numpy.ones_like(cola), cola),
        classes("CoLA dev, random", rng.integers(0, 2, cola.size), cola),
    ],
    "values": [
        values("two, rising", [0.5, 1.5], [2.0, 7.0]),
        values("two, falling", [1.5, 0.5], [2.0, 7.0]),
        values("by hand", [1, 2, 3, 4, 5], [2, 1, 4, 3, 5]),
        values("ties in both", *steps),
        values("ties in one", rng.random(40).round(6), rng.integers(0, 3, 40)),
        values("random", rng.normal(size=101).round(6), rng.normal(size=101).round(6)),
        values("rising, not straight", numpy.arange(30) ** 3, numpy.arange(30)),
        values("constant prediction", [0.1] * 7, [1, 2, 2, 3, 4, 5, 1]),
        values("constant wanted", [1, 2, 2, 3, 4, 5, 1], [0.3] * 7),
        values("both constant", [0.1] * 7, [0.3] * 7),
        values("far from zero", 1e6 + rng.random(50).round(6), 1e6 + rng.random(50).round(6)),
        values("large", rng.normal(size=30).round(6) * 1e200, rng.normal(size=30).round(6)),
        values("STS-B sized", noisy, stsb),
    ],
}, sys.stdout, separators=(",", ":"))
print()
