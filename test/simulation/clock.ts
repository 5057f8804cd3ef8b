/** Virtual time: events in order of their time, then of their making. Nothing waits for anything real. */
export class Clock {
  now = 0;
  private made = 0;
  /** A binary heap; `[time, number, work]`. */
  private readonly heap: [number, number, () => void][] = [];

  after(ms: number, work: () => void): void {
    const heap = this.heap;
    heap.push([this.now + Math.max(0, ms), this.made++, work]);
    for (let i = heap.length - 1; i > 0;) {
      const parent = (i - 1) >> 1;
      if (!this.before(i, parent)) break;
      this.swap(i, parent);
      i = parent;
    }
  }

  /** Does the next event; false when there is none before `until`. */
  step(until: number): boolean {
    const heap = this.heap;
    const [first] = heap;
    if (first === undefined || first[0] > until) return false;
    const last = heap.pop();
    if (heap.length > 0 && last) {
      heap[0] = last;
      for (let i = 0; ;) {
        const left = 2 * i + 1;
        let least = i;
        if (left < heap.length && this.before(left, least)) least = left;
        if (left + 1 < heap.length && this.before(left + 1, least)) least = left + 1;
        if (least === i) break;
        this.swap(i, least);
        i = least;
      }
    }
    this.now = first[0];
    first[2]();
    return true;
  }

  private before(a: number, b: number): boolean {
    const [one, other] = [this.heap[a], this.heap[b]];
    if (!one || !other) return false;
    return one[0] !== other[0] ? one[0] < other[0] : one[1] < other[1];
  }
  private swap(a: number, b: number): void {
    const [one, other] = [this.heap[a], this.heap[b]];
    if (!one || !other) return;
    this.heap[a] = other;
    this.heap[b] = one;
  }
}
