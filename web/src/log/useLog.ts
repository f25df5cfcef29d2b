// A task's log, live: events gathered from the stream and handed to the page once per frame.
import { useCallback, useEffect, useRef, useState } from "react";
import { useStream } from "../api/live";
import { eventsPath } from "../api/queries";
import type { Connection, Message } from "../api/sse";
import type { Task } from "../api/types";
import { isUnsettled } from "../tasks/state";
import { type LogEvent, readEvent } from "./events";
import { append, EMPTY_LOG, type Log } from "./log";

export interface LiveLog {
  readonly log: Log;
  readonly connection: Connection;
}

/** Follows a task's log while it may grow; `onChange` hears of events that change the task itself. */
export function useLog(id: string, onChange: () => void, task: Task): LiveLog {
  const [log, setLog] = useState<Log>(EMPTY_LOG);
  const lastSeq = useRef(0);
  const waiting = useRef<LogEvent[]>([]);
  const frame = useRef(0);

  const flush = useCallback(() => {
    frame.current = 0;
    const batch = waiting.current;
    waiting.current = [];
    setLog((before) => append(before, batch));
    if (batch.some(changesTask)) onChange();
  }, [onChange]);

  const take = useCallback(
    (messages: readonly Message[]) => {
      for (const message of messages) {
        const event = readEvent(message.data);
        if (event === undefined || event.seq <= lastSeq.current) continue;
        lastSeq.current = event.seq;
        waiting.current.push(event);
      }
      if (frame.current === 0 && waiting.current.length > 0) frame.current = requestAnimationFrame(flush);
    },
    [flush],
  );

  useEffect(
    () => () => {
      if (frame.current !== 0) {
        cancelAnimationFrame(frame.current);
        frame.current = 0;
      }
    },
    [],
  );

  const url = useCallback(() => eventsPath(id, lastSeq.current), [id]);
  const grows = isUnsettled(task) || log.lastSeq < task.last_seq;
  return { log, connection: useStream(grows, url, take) };
}

function changesTask({ body }: LogEvent): boolean {
  return (
    body?.type === "attempt.state" || body?.type === "publication.state" || body?.type === "turn.created"
  );
}
