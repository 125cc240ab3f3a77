def tuning_row(x):
    return (f"{x['epochs']:6.1%} {x['regret']['mean']:10.3f} {x['regret']['95']:8.3f} {x['regret_0.05']:7.1%} {x['regret_0.10']:7.1%} {x['below_best']['mean']:9.3f} {x['recall']:8.1%}")
def write(r, out): pass
