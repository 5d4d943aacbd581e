// SPDX-License-Identifier: BSD-2-Clause

// proxy LISTEN TO: copies between the two with io.Copy, which splices from socket to socket.
package main

import (
	"io"
	"log"
	"net"
	"os"
)

func half(to, from *net.TCPConn, done chan<- struct{}) {
	if _, err := io.Copy(to, from); err != nil {
		log.Print(err)
	}
	to.CloseWrite()
	done <- struct{}{}
}

func serve(client *net.TCPConn, to string) {
	defer client.Close()
	c, err := net.Dial("tcp", to)
	if err != nil {
		log.Print(err)
		return
	}
	server := c.(*net.TCPConn)
	defer server.Close()
	done := make(chan struct{}, 2)
	go half(server, client, done)
	go half(client, server, done)
	<-done
	<-done
}

func main() {
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(c.(*net.TCPConn), os.Args[2])
	}
}
