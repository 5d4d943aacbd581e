# SPDX-License-Identifier: BSD-2-Clause
"""Does an observed split fit the weights? Exact where it is cheap, standard library only."""
import math

ALPHA = 1e-6


def binomial_tail(n, k, p):
    """P(X >= k) for X ~ Binomial(n, p), by summing logarithms: no overflow, and no approximation."""
    if k <= 0:
        return 1.0
    if p <= 0 or k > n:
        return 0.0
    if p >= 1:
        return 1.0
    total = 0.0
    log_p, log_q = math.log(p), math.log1p(-p)
    for i in range(k, n + 1):
        term = (math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q)
        total += math.exp(term)
    return min(total, 1.0)


def binomial_p(n, k, p):
    """Two-sided: twice the smaller tail."""
    return min(1.0, 2 * min(binomial_tail(n, k, p), binomial_tail(n, n - k, 1 - p)))


def gamma_q(a, x):
    """Regularised upper incomplete gamma function (series below a + 1, continued fraction above; DLMF 8.11.4, 8.9.2)."""
    if x <= 0:
        return 1.0
    front = math.exp(-x + a * math.log(x) - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        n = a
        while abs(term) > abs(total) * 1e-15:
            n += 1
            term *= x / n
            total += term
        return 1 - total * front
    tiny = 1e-300
    b = x + 1 - a
    c = 1 / tiny
    d = 1 / b
    h = d
    for i in range(1, 10000):
        an = -i * (i - a)
        b += 2
        d = an * d + b
        d = 1 / (d if abs(d) > tiny else tiny)
        c = b + an / c
        c = c if abs(c) > tiny else tiny
        h *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return front * h


def chi_square_p(observed, weights):
    """Both by name. The p-value of Pearson's test; 0.0 when something without weight was chosen."""
    total, weight = sum(observed.values()), sum(weights.values())
    if any(count and not weights.get(name) for name, count in observed.items()):
        return 0.0
    names = [name for name, w in weights.items() if w]
    if len(names) < 2:
        return 1.0
    x = sum((observed.get(n, 0) - total * weights[n] / weight) ** 2 / (total * weights[n] / weight) for n in names)
    return gamma_q((len(names) - 1) / 2, x / 2)


def split_error(observed, weights, alpha=ALPHA):
    """None when the counts fit the weights at the confidence 1 - alpha, otherwise a sentence."""
    total, weight = sum(observed.values()), sum(weights.values())
    strangers = {n: c for n, c in observed.items() if c and not weights.get(n)}
    if strangers:
        return f"answers from {strangers}, who have no weight"
    names = [n for n in weights if weights[n]]
    if len(names) == 1:
        return None
    if len(names) == 2:
        p = binomial_p(total, observed.get(names[0], 0), weights[names[0]] / weight)
    else:
        p = chi_square_p(observed, weights)
    return None if p >= alpha else f"{observed} of {total} does not fit {weights}: p = {p:.3g}"
