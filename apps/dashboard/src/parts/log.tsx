import { useEffect, useMemo, useRef, useState } from 'react';
import Anser from 'anser';
import { ActionIcon, Button, Checkbox, Group, NativeSelect, Text, TextInput } from '@mantine/core';
import { useVirtualizer } from '@tanstack/react-virtual';
import { ims, type Schemas } from '../api.js';
import { Empty, Failed } from './frame.js';

type Line = Schemas['LogLine'];
const LEVELS = ['debug', 'info', 'warn', 'error'] as const;
const LINE_PX = 18;
/** New lines are shown together, at most this often. */
const SHOW_MS = 120;

interface Followed {
  readonly lines: readonly Line[];
  readonly state: 'reading' | 'following' | 'ended';
  readonly note: string;
  readonly error: Error | null;
}

/** The log of a job from its first line, live until the job has ended. Lines are kept in one array that only grows. */
function useLog(jobId: string): Followed {
  const lines = useRef<Line[]>([]);
  const [shown, setShown] = useState<Followed>({ lines: [], state: 'reading', note: '', error: null });
  useEffect(() => {
    const stop = new AbortController();
    lines.current = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = (change: Partial<Followed> = {}): void =>
      setShown((before) => ({ ...before, ...change, lines: lines.current.slice() }));
    const soon = (): void => {
      timer ??= setTimeout(() => {
        timer = undefined;
        show({ state: 'following', note: '' });
      }, SHOW_MS);
    };
    const follow = async (): Promise<void> => {
      for await (const news of ims.followLogs(jobId, { signal: stop.signal })) {
        if (news.kind === 'line') {
          lines.current.push(news.line);
          soon();
        } else if (news.kind === 'reconnecting') {
          show({ note: 'the connection was lost; reading goes on where it stopped' });
        } else {
          clearTimeout(timer);
          show({ state: 'ended', note: '' });
        }
      }
    };
    follow().catch((error: unknown) => {
      if (!stop.signal.aborted) show({ error: error instanceof Error ? error : new Error(String(error)) });
    });
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [jobId]);
  return shown;
}

interface Search {
  readonly find: RegExp | undefined;
  readonly fault: string;
}
function searchOf(text: string, asRegex: boolean): Search {
  if (text === '') return { find: undefined, fault: '' };
  try {
    return { find: new RegExp(asRegex ? text : text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'gi'), fault: '' };
  } catch {
    return { find: undefined, fault: 'not a regular expression' };
  }
}

/** What a terminal would show, without the codes that say how. */
const bare = (text: string): string => (text.includes('\u001b') ? Anser.ansiToText(text) : text);

export function Log({ jobId }: { readonly jobId: string }) {
  const log = useLog(jobId);
  const [text, setText] = useState('');
  const [asRegex, setAsRegex] = useState(false);
  const [level, setLevel] = useState<string>('debug');
  const [follows, setFollows] = useState(true);
  const [at, setAt] = useState(-1);
  const box = useRef<HTMLDivElement>(null);

  const { find, fault } = useMemo(() => searchOf(text, asRegex), [text, asRegex]);
  const lines = useMemo(() => {
    const least = LEVELS.indexOf(level as (typeof LEVELS)[number]);
    return least <= 0 ? log.lines : log.lines.filter((line) => LEVELS.indexOf(line.level) >= least);
  }, [log.lines, level]);
  const hits = useMemo(() => {
    if (find === undefined) return [];
    const found: number[] = [];
    lines.forEach((line, index) => {
      find.lastIndex = 0;
      if (find.test(bare(line.text))) found.push(index);
    });
    return found;
  }, [lines, find]);

  const rows = useVirtualizer({
    count: lines.length,
    getScrollElement: () => box.current,
    estimateSize: () => LINE_PX,
    overscan: 20,
  });
  useEffect(() => {
    if (follows && lines.length > 0) rows.scrollToIndex(lines.length - 1, { align: 'end' });
  }, [follows, lines.length, rows]);

  const jump = (by: number): void => {
    if (hits.length === 0) return;
    const next = (at + by + hits.length) % hits.length;
    setAt(next);
    setFollows(false);
    rows.scrollToIndex(hits[next] ?? 0, { align: 'center' });
  };

  return (
    <div>
      <Group gap="xs" px="md" py={10}>
        <TextInput
          size="xs"
          placeholder="Search in the log"
          aria-label="Search in the log"
          value={text}
          error={fault === '' ? undefined : fault}
          onChange={({ currentTarget }) => {
            setText(currentTarget.value);
            setAt(-1);
          }}
          onKeyDown={(event) => {
            if (event.key === 'Enter') jump(event.shiftKey ? -1 : 1);
          }}
          style={{ flex: '1 1 180px', maxWidth: 340 }}
        />
        {find !== undefined && (
          <Group gap={4}>
            <Text fz="xs" className="muted nowrap" aria-live="polite">
              {hits.length === 0 ? 'no match' : `${at + 1 || '–'} of ${hits.length}`}
            </Text>
            <ActionIcon variant="default" size="sm" aria-label="previous match" onClick={() => jump(-1)}>
              ↑
            </ActionIcon>
            <ActionIcon variant="default" size="sm" aria-label="next match" onClick={() => jump(1)}>
              ↓
            </ActionIcon>
          </Group>
        )}
        <Checkbox
          size="xs"
          label="regex"
          checked={asRegex}
          onChange={({ currentTarget }) => setAsRegex(currentTarget.checked)}
        />
        <NativeSelect
          size="xs"
          aria-label="Least level"
          value={level}
          onChange={({ currentTarget }) => setLevel(currentTarget.value)}
          data={LEVELS.map((name) => ({ value: name, label: name === 'debug' ? 'all levels' : `${name} and worse` }))}
        />
        <Checkbox
          size="xs"
          label="follow"
          checked={follows}
          onChange={({ currentTarget }) => setFollows(currentTarget.checked)}
        />
        <Text fz="xs" className="muted" ml="auto" aria-live="polite">
          {log.note !== ''
            ? log.note
            : `${log.lines.length.toLocaleString()} lines${log.state === 'ended' ? '' : ', live'}`}
        </Text>
        <Button
          component="a"
          variant="default"
          size="compact-xs"
          href={`/v1/jobs/${jobId}/logs`}
          download={`${jobId}.ndjson`}
        >
          Download
        </Button>
      </Group>
      {log.error !== null && <Failed error={log.error} />}
      <div
        className="log"
        ref={box}
        tabIndex={0}
        role="log"
        aria-label="Log"
        onWheel={({ deltaY }) => {
          if (deltaY < 0) setFollows(false);
        }}
      >
        {lines.length === 0 && log.error === null && (
          <Empty>{log.state === 'reading' ? 'reading…' : 'No line yet.'}</Empty>
        )}
        <div style={{ height: rows.getTotalSize(), position: 'relative' }}>
          {rows.getVirtualItems().map(({ index, start }) => {
            const line = lines[index];
            return line === undefined ? null : (
              <div
                key={index}
                ref={rows.measureElement}
                data-index={index}
                className="log-line"
                data-level={line.level}
                data-at={hits[at] === index || undefined}
                style={{ transform: `translateY(${start}px)` }}
              >
                <span className="muted log-time">{line.at.slice(11, 23)}</span>
                <span className="muted log-step">{line.step}</span>
                <span className="log-text">
                  <LineText text={line.text} find={find} />
                </span>
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

/** A line with its colours, or, while something is searched, with what was found. Never as HTML. */
function LineText({ text, find }: { readonly text: string; readonly find: RegExp | undefined }) {
  if (find !== undefined) {
    const parts: (string | { readonly hit: string })[] = [];
    const shown = bare(text);
    let from = 0;
    for (const match of shown.matchAll(find)) {
      if (match[0] === '') break;
      parts.push(shown.slice(from, match.index), { hit: match[0] });
      from = match.index + match[0].length;
    }
    parts.push(shown.slice(from));
    return parts.map((part, index) => (typeof part === 'string' ? part : <mark key={index}>{part.hit}</mark>));
  }
  if (!text.includes('\u001b')) return text;
  return Anser.ansiToJson(text, { remove_empty: true }).map(({ content, fg, bg, decorations }, index) => (
    <span
      key={index}
      style={{
        color: fg ? `rgb(${fg})` : undefined,
        background: bg ? `rgb(${bg})` : undefined,
        fontWeight: decorations.includes('bold') ? 600 : undefined,
        opacity: decorations.includes('dim') ? 0.7 : undefined,
        textDecoration: decorations.includes('underline') ? 'underline' : undefined,
      }}
    >
      {content}
    </span>
  ));
}
