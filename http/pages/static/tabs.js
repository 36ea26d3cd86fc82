// Tabs of this browser that show the same session: what one of them does to the balance, the others look up.

let channel = null;
try { channel = new BroadcastChannel("satmeter.sessions"); } catch { /* Each tab looks when it is shown again. */ }

export const tellTabs = (sessionId) => channel?.postMessage(sessionId);

export function heedTabs(sessionId, element, act) {
  // Ends with its element.
  const heard = ({ data }) => {
    if (!element.isConnected) channel.removeEventListener("message", heard);
    else if (data === sessionId) act();
  };
  channel?.addEventListener("message", heard);
}
