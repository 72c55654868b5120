"""stub"""
from streams.core.rules.book import Rulebook
from streams.core.rules.policy import *
H=3_600_000
def default(version=1, wait=7):
    d=lambda start,amount: Deadline("elapsed",start,amount)
    return Policy(platform="any",name="douyin-first-scan",version=version,time_zone="Asia/Shanghai",
      kinds={"late-scan":Kind(deadlines={"normal":d("placed",72*H),"express":d("uploaded",24*H),"stepped":d("uploaded",24*H),"presale":d("promised",0)},until=("scanned","closed"),every=24*H,times=3,warn_before=(24*H,4*H))},
      accounts=(Account(name="deposit",kinds=("late-scan",),unit="CNY",amount=Amount(tiers=(Tier(flat=1000),)),caps=(Cap(span="order",limit=2),Cap(span="day",limit=50000)),settle_at=0),
                Account(name="points",kinds=("late-scan",),unit="tenth-point:B",amount=Amount(tiers=(Tier(flat=1),)),caps=(Cap(span="week",limit=20),))),
      sanctions=(Sanction(counts=("late-scan",),of="order",more_than=2,action="product-ban"),),
      close_unshipped=150*DAY_MS,retention=Retention(),processing=Processing(facts_wait=wait*DAY_MS,late_payment=7*DAY_MS))
def load_rulebook(names):
    return Rulebook([default()])
