import { useEffect, useRef } from 'react';
import { useComputedColorScheme } from '@mantine/core';
import uPlot from 'uplot';

export interface Series {
  readonly label: string;
  readonly values: readonly (number | null)[];
  readonly show: (value: number) => string;
}

/** One value over time. `times` in seconds since 1970, oldest first. */
export function Chart({
  times,
  series: { label, values, show },
}: {
  readonly times: readonly number[];
  readonly series: Series;
}) {
  const scheme = useComputedColorScheme('light');
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const shower = useRef(show);
  shower.current = show;
  const data = useRef<uPlot.AlignedData>([[], []]);
  data.current = [times as number[], values as number[]];

  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const line = scheme === 'dark' ? '#748ffc' : '#4263eb';
    const axis = {
      stroke: scheme === 'dark' ? '#a6a7ab' : '#5c636b',
      grid: { stroke: scheme === 'dark' ? '#2e2e33' : '#eef0f2', width: 1 },
      ticks: { show: false },
      font: '11px system-ui',
    };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: 130,
        legend: { show: false },
        cursor: { y: false, points: { size: 6 } },
        series: [{}, { stroke: line, width: 1.5, fill: `${line}18`, spanGaps: false, points: { show: false } }],
        axes: [
          { ...axis, space: 70 },
          { ...axis, size: 62, values: (_, splits) => splits.map((value) => shower.current(value)), space: 32 },
        ],
        scales: {
          y: {
            range: (_, low, high) => (low === high ? [Math.min(0, low), high + 1] : [Math.min(0, low), high * 1.1]),
          },
        },
      },
      data.current,
      element,
    );
    plot.current = made;
    const watcher = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: 130 }));
    watcher.observe(element);
    return () => {
      watcher.disconnect();
      made.destroy();
    };
  }, [scheme]);
  useEffect(() => plot.current?.setData(data.current), [times, values]);

  const known = values.filter((value) => value !== null);
  const last = known.at(-1);
  return (
    <figure style={{ margin: 0, minWidth: 0 }}>
      <figcaption style={{ display: 'flex', justifyContent: 'space-between', fontSize: 13 }}>
        <span className="muted">{label}</span>
        <span>{last === undefined ? '–' : show(last)}</span>
      </figcaption>
      <div ref={box} aria-hidden />
    </figure>
  );
}
