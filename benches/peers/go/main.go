// The server of drainline's shape as one would write it in plain Go: a goroutine for each connection, a buffered
// channel, a select with a timer, one consumer.
//
// Whatever a Go programmer would do for speed is done: the timer is reused and only made when the channel is full, the
// consumer writes through a buffer that it flushes when the channel is empty.
package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const maxMessage = 64 << 10

var (
	listen      = flag.String("listen", "127.0.0.1:5140", "address to listen on")
	sink        = flag.String("sink", "null", "null, or the path of a file or FIFO that is appended to")
	buffer      = flag.Int("buffer-messages", 1024, "slots of the channel")
	readBuffer  = flag.Int("read-buffer", 4096, "bytes of each connection's read buffer")
	sendTimeout = flag.Duration("send-timeout", 30*time.Second, "ends a connection that waited this long for a slot")
	echo        = flag.Bool("echo", false, "sends each line back")
	tlsCert     = flag.String("tls-cert", "", "certificate chain in PEM: speaks TLS")
	tlsKey      = flag.String("tls-key", "", "its key in PEM")
)

var dropped atomic.Uint64

func main() {
	flag.Parse()
	out := io.Discard
	if *sink != "null" {
		file, err := os.OpenFile(*sink, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
		check(err)
		out = file
	}
	// The kernel's longest backlog: net asks for it (net.core.somaxconn).
	listener, err := net.Listen("tcp", *listen)
	check(err)
	if *tlsCert != "" {
		certificate, err := tls.LoadX509KeyPair(*tlsCert, *tlsKey)
		check(err)
		listener = tls.NewListener(listener, &tls.Config{
			Certificates: []tls.Certificate{certificate},
			// Whoever sends and closes without reading would be reset for the tickets that it did not read.
			SessionTicketsDisabled: true,
		})
	}

	messages := make(chan []byte, *buffer)
	consumed := make(chan uint64)
	go func() { consumed <- consume(messages, out) }()

	var handlers sync.WaitGroup
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handlers.Add(1)
			go func() {
				defer handlers.Done()
				handle(conn, messages)
			}()
		}
	}()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	listener.Close()
	ended := make(chan struct{})
	go func() { handlers.Wait(); close(ended) }()
	select {
	case <-ended:
		close(messages)
		fmt.Printf("{\"messages\":%d,\"dropped\":%d}\n", <-consumed, dropped.Load())
	case <-time.After(time.Second):
		// Connections are still open: what was consumed is not known for certain.
		fmt.Printf("{\"dropped\":%d}\n", dropped.Load())
	}
}

func handle(conn net.Conn, messages chan<- []byte) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, *readBuffer), maxMessage)
	var replies *bufio.Writer
	if *echo {
		replies = bufio.NewWriter(conn)
	}
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for lines.Scan() {
		message := append([]byte(nil), lines.Bytes()...)
		if *echo {
			replies.Write(message)
			replies.WriteByte('\n')
			if replies.Flush() != nil {
				return
			}
		}
		select {
		case messages <- message:
		default:
			if !sendSlow(messages, message, timer) {
				dropped.Add(1)
				return
			}
		}
	}
}

func sendSlow(messages chan<- []byte, message []byte, timer *time.Timer) bool {
	timer.Reset(*sendTimeout)
	select {
	case messages <- message:
		if !timer.Stop() {
			<-timer.C
		}
		return true
	case <-timer.C:
		return false
	}
}

func consume(messages <-chan []byte, out io.Writer) uint64 {
	writer := bufio.NewWriterSize(out, 64<<10)
	var count uint64
	for message := range messages {
		writer.Write(message)
		writer.WriteByte('\n')
		count++
		if len(messages) == 0 {
			check(writer.Flush())
		}
	}
	check(writer.Flush())
	return count
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
