"""python3 digit_classifier.py --folder OUT_DIR: the judge of problem 1 (p1_cond_ddpm/judge.py)."""

from p1_cond_ddpm.judge import main

if __name__ == "__main__":
    raise SystemExit(main())
