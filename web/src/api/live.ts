// Streams as hooks: followed while the page is to be seen, put down while it is hidden (a browser opens six connections
// to one host at most, over all its tabs), and taken up again where they were.
import { useEffect, useState } from "react";
import { type Connection, follow, type Message } from "./sse";

/** Follows a stream for as long as `active`. `url` and `onMessages` must stay the same between renders. */
export function useStream(
  active: boolean,
  url: () => string,
  onMessages: (messages: readonly Message[]) => void,
): Connection {
  const [connection, setConnection] = useState<Connection>({ is: "connecting" });
  const visible = useVisible();
  useEffect(() => {
    if (!active || !visible) return;
    const ended = new AbortController();
    void follow({ url, onMessages, onConnection: setConnection }, ended.signal);
    return () => ended.abort();
  }, [active, visible, url, onMessages]);
  return connection;
}

function useVisible(): boolean {
  const [visible, setVisible] = useState(() => document.visibilityState === "visible");
  useEffect(() => {
    const read = () => setVisible(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", read);
    return () => document.removeEventListener("visibilitychange", read);
  }, []);
  return visible;
}
